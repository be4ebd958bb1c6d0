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
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"

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

Options parse(int count, char** arguments) {
  if (count < 2) throw Error(ErrorCode::kInvalidArgument, "usage: checkpoint_bench FOLDER [--name value]...");
  Options options{.folder = arguments[1]};
  for (int i = 2; i + 1 < count; i += 2) {
    const std::string_view name = arguments[i];
    const int value = std::atoi(arguments[i + 1]);
    if (name == "--blocks") options.blocks = value;
    if (name == "--width") options.width = value;
    if (name == "--rows") options.rows = value;
    if (name == "--rounds") options.rounds = value;
    if (name == "--steps") options.steps = value;
  }
  return options;
}

template <typename Function>
double seconds_of(const Function& function) {
  const auto begin = std::chrono::steady_clock::now();
  function();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

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

double peak_memory() {
  constexpr std::string_view kKey = "VmHWM:";
  std::ifstream lines("/proc/self/status");
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kKey)) return std::atof(line.c_str() + kKey.size()) * 1024 / 1e9;
  }
  return 0.0;
}

torch::nn::Sequential make_model(const Options& options) {
  torch::nn::Sequential model;
  for (int block = 0; block < options.blocks; ++block) {
    model->push_back(torch::nn::Linear(options.width, 4 * options.width));
    model->push_back(torch::nn::ReLU());
    model->push_back(torch::nn::Linear(4 * options.width, options.width));
  }
  return model;
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options), input_(torch::randn({options.rows, options.width})) {
    at::set_num_threads(1);
    Config config;
    config.optimizer = OptimizerConfig{.lr = 1e-4};
    InitializeOptions alone;
    alone.device = torch::kCPU;
    engine_ = initialize(make_model(options), config, alone);
  }

  void run() {
    window(false);
    for (int round = 0; round < options_.rounds; ++round) {
      saves_.push_back(seconds_of([&] { save("waited", false); }));
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
    if (saves) window.call = seconds_of([&] { save("beside", true); });
    for (int i = 0; i < options_.steps; ++i) {
      window.passes +=
          seconds_of([&] { engine_->backward(torch::mse_loss(engine_->forward(input_), input_)); });
      window.updates += seconds_of([&] { engine_->step(); });
    }
    window.peak_memory = peak_memory();
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

int main(int count, char** arguments) {
  try {
    deepscale::Bench bench(deepscale::parse(count, arguments));
    bench.run();
    bench.report();
  } catch (const deepscale::Error& error) {
    fmt::print(stderr, "checkpoint_bench: {}\n", error.what());
    return 1;
  }
}
