// checkpoint_bench FOLDER [--blocks N] [--width W] [--rows R] [--rounds K] [--steps S]: how long a save in
// the background holds up training, beside the time of a save that is waited for. Trains a stack of N blocks
// of two W x 4W layers in fp32 on R rows a step, in one process and one thread.
//
// Windows of S steps follow one another, every second one with a save. A round is one with a save and its two
// neighbours without: their mean is what the steps would have taken, so that slow drifts of the machine fall
// out. The median over the rounds, with the quartiles, also of the differences between the neighbours: that
// is what the steps differ by without any save.
#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"
#include "tests/bench/bench_tools.h"
#include "tests/bench/block_stack.h"

namespace deepscale {
namespace {

struct Options {
  std::string folder;
  int blocks = 20;
  int width = 1024;
  int rows = 256;
  int rounds = 8;
  int steps = 2;
};

// In seconds, but for the last.
struct Window {
  double call = 0.0;  // of save_checkpoint()
  double passes = 0.0;
  double updates = 0.0;
  double peak_memory = 0.0;  // GB; 0 where the system does not tell

  double whole() const { return call + passes + updates; }
};

struct Quartiles {
  double first, median, third;
};

Quartiles quartiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const double above = values[std::min(below + 1, values.size() - 1)];
    return values[below] + (place - static_cast<double>(below)) * (above - values[below]);
  };
  return {at(0.25), at(0.5), at(0.75)};
}

double median(const std::vector<double>& values) {
  return quartiles(values).median;
}

void forget_peak_memory() {
  std::ofstream("/proc/self/clear_refs") << 5;
}

class SaveBench {
 public:
  explicit SaveBench(const Options& options)
      : options_(options), input_(torch::randn({options.rows, options.width})) {
    at::set_num_threads(1);
    Config config;
    config.optimizer = OptimizerConfig{.lr = 1e-4};
    InitializeOptions alone;
    alone.device = torch::kCPU;
    engine_ = initialize(bench::make_block_stack(options.blocks, options.width), config, alone);
  }

  void run() {
    window(false);
    for (int round = 0; round < options_.rounds; ++round) {
      saves_.push_back(bench::seconds_of([&] { save("waited", false); }));
      alone_.push_back(window(false));
      beside_.push_back(window(true));
      engine_->wait_for_checkpoint();
    }
    alone_.push_back(window(false));
  }

  void report() const {
    const MemoryReport memory = engine_->memory();
    std::vector<double> steps;
    for (const Window& alone : alone_) steps.push_back(alone.whole() / options_.steps);
    fmt::print("{:.2f} GB of states, {} rounds of {} steps: step {:.3f} s, save {:.3f} s\n",
               static_cast<double>(memory.parameters + memory.optimizer_state) / 1e9, options_.rounds,
               options_.steps, median(steps), median(saves_));
    const std::vector<double> stalls = differences([](const Window& window) { return window.whole(); });
    fmt::print("a save beside them: {:.1f} % of its time\n", 100.0 * median(stalls) / median(saves_));
    print("stall, s", stalls);
    print("  in save_checkpoint()", differences([](const Window& window) { return window.call; }));
    print("  in forward and backward", differences([](const Window& window) { return window.passes; }));
    print("  in step()", differences([](const Window& window) { return window.updates; }));
    print("more memory at the peak, GB",
          differences([](const Window& window) { return window.peak_memory; }));
    std::vector<double> noise;
    for (std::size_t i = 1; i < alone_.size(); ++i)
      noise.push_back(alone_[i].whole() - alone_[i - 1].whole());
    print("difference without a save, s", noise);
  }

 private:
  void save(const char* tag, bool in_background) {
    engine_->save_checkpoint(options_.folder, {.tag = tag, .in_background = in_background, .keep_last = 1});
  }

  Window window(bool saves) {
    Window window;
    forget_peak_memory();
    if (saves) window.call = bench::seconds_of([&] { save("beside", true); });
    for (int i = 0; i < options_.steps; ++i) {
      window.passes +=
          bench::seconds_of([&] { engine_->backward(torch::mse_loss(engine_->forward(input_), input_)); });
      window.updates += bench::seconds_of([&] { engine_->step(); });
    }
    window.peak_memory = bench::megabytes_in("/proc/self/status", "VmHWM") * 1024 * 1024 / 1e9;
    return window;
  }

  static void print(std::string_view what, const std::vector<double>& values) {
    const Quartiles of = quartiles(values);
    fmt::print("{:<28} {:6.3f} ({:.3f} to {:.3f})\n", what, of.median, of.first, of.third);
  }

  // With a save less without one.
  template <typename Value>
  std::vector<double> differences(const Value& value_of) const {
    std::vector<double> differences;
    for (std::size_t i = 0; i < beside_.size(); ++i)
      differences.push_back(value_of(beside_[i]) - (value_of(alone_[i]) + value_of(alone_[i + 1])) / 2);
    return differences;
  }

  const Options options_;
  const torch::Tensor input_;
  std::unique_ptr<Engine> engine_;
  std::vector<double> saves_;
  std::vector<Window> alone_, beside_;  // in turns
};

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  using namespace deepscale;
  Options options;
  cxxopts::Options line("checkpoint_bench", "Saves beside training.");
  auto add = line.add_options();
  add("folder", "", cxxopts::value(options.folder));
  add("blocks", "", cxxopts::value(options.blocks));
  add("width", "", cxxopts::value(options.width));
  add("rows", "", cxxopts::value(options.rows));
  add("rounds", "", cxxopts::value(options.rounds));
  add("steps", "of a window", cxxopts::value(options.steps));
  line.parse_positional("folder");
  line.positional_help("FOLDER");
  return bench::run(line, argc, argv, [&] {
    if (options.folder.empty())
      throw Error(ErrorCode::kInvalidArgument, "which folder? usage: checkpoint_bench FOLDER");
    SaveBench saves(options);
    saves.run();
    saves.report();
  });
}
