// engine_overhead: what an Engine costs where it has nothing to add, in a world of one.
//
//   build/tests/engine_overhead [--steps N] [--blocks N] [--threads N]
//
// Trains the same transformer (9.5 million parameters, fp32, 4 x 32 tokens a step) with a bare LibTorch loop
// and with an Engine, in turns of --steps steps, with the same fused AdamW kernel; once without clipping and
// once with clipping by global norm. Prints the median step of both and the median ratio of neighbouring
// turns.
#include <fmt/core.h>
#include <torch/torch.h>

#include "runtime/engine/engine.h"
#include "tests/bench/bench_tools.h"

namespace deepscale {
namespace {

constexpr std::int64_t kWidth = 512;
constexpr OptimizerConfig kAdamW{.lr = 1e-4, .weight_decay = 0.01};

struct TransformerImpl : torch::nn::Module {
  TransformerImpl() {
    const auto layer =
        torch::nn::TransformerEncoderLayerOptions(kWidth, 8).dim_feedforward(4 * kWidth).dropout(0.0);
    encoder = register_module("encoder",
                              torch::nn::TransformerEncoder(torch::nn::TransformerEncoderOptions(layer, 3)));
  }
  torch::Tensor forward(const torch::Tensor& x) { return encoder(x); }
  torch::nn::TransformerEncoder encoder = nullptr;
};
TORCH_MODULE(Transformer);

class Training {
 public:
  virtual ~Training() = default;
  virtual void step(const torch::Tensor& input) = 0;
};

class BareTraining final : public Training {
 public:
  BareTraining(Transformer model, double clipping)
      : model_(std::move(model)), clipping_(clipping), parameters_(model_->parameters()) {
    for (const torch::Tensor& parameter : parameters_) {
      first_moments_.push_back(torch::zeros_like(parameter));
      second_moments_.push_back(torch::zeros_like(parameter));
      steps_.push_back(torch::zeros({}));
    }
  }

  void step(const torch::Tensor& input) override {
    model_(input).square().mean().backward();
    if (clipping_ > 0.0) torch::nn::utils::clip_grad_norm_(parameters_, clipping_);
    torch::NoGradGuard no_grad;
    std::vector<torch::Tensor> gradients;
    for (const torch::Tensor& parameter : parameters_) gradients.push_back(parameter.grad());
    at::_foreach_add_(steps_, 1);
    at::_fused_adamw_(parameters_, gradients, first_moments_, second_moments_, {}, steps_, kAdamW.lr,
                      kAdamW.betas[0], kAdamW.betas[1], kAdamW.weight_decay, kAdamW.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
    model_->zero_grad();
  }

 private:
  Transformer model_;
  double clipping_;
  std::vector<torch::Tensor> parameters_, first_moments_, second_moments_, steps_;
};

class EngineTraining final : public Training {
 public:
  EngineTraining(const Transformer& model, double clipping) {
    Config config;
    config.gradient_clipping = clipping;
    config.optimizer = kAdamW;
    InitializeOptions options;
    options.device = torch::kCPU;
    options.logger = Logger();
    engine_ = initialize(model, config, std::move(options));
  }

  void step(const torch::Tensor& input) override {
    engine_->backward(engine_->forward(input).square().mean());
    engine_->step();
  }

 private:
  std::unique_ptr<Engine> engine_;
};

double seconds_per_step(Training& training, const torch::Tensor& input, int steps) {
  return bench::seconds_of([&] {
           for (int i = 0; i < steps; ++i) training.step(input);
         }) /
         steps;
}

struct Options {
  int steps = 10;
  int blocks = 15;
  int threads = 1;
};

void compare(const char* name, double clipping, const Options& options) {
  BareTraining bare({}, clipping);
  EngineTraining engine({}, clipping);
  const torch::Tensor input = torch::randn({32, 4, kWidth});
  std::vector<double> bare_seconds, engine_seconds, ratios;
  for (int block = -1; block < options.blocks; ++block) {
    const bool engine_first = block % 2 == 0;
    double of_engine = engine_first ? seconds_per_step(engine, input, options.steps) : 0.0;
    const double of_bare = seconds_per_step(bare, input, options.steps);
    if (!engine_first) of_engine = seconds_per_step(engine, input, options.steps);
    if (block < 0) continue;  // warm-up
    bare_seconds.push_back(of_bare);
    engine_seconds.push_back(of_engine);
    ratios.push_back(of_engine / of_bare);
  }
  fmt::print("{:<20}{:>10.2f} ms{:>10.2f} ms{:>10.3f}\n", name, bench::median(bare_seconds) * 1e3,
             bench::median(engine_seconds) * 1e3, bench::median(ratios));
}

void compare_all(const Options& options) {
  at::set_num_threads(options.threads);
  fmt::print("{:<20}{:>13}{:>13}{:>10}\n", "step of", "bare loop", "Engine", "ratio");
  compare("AdamW", 0.0, options);
  compare("AdamW, clipping", 1.0, options);
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  using namespace deepscale;
  Options options;
  cxxopts::Options line("engine_overhead", "An Engine beside a bare loop.");
  auto add = line.add_options();
  add("steps", "of a turn", cxxopts::value(options.steps));
  add("blocks", "turns", cxxopts::value(options.blocks));
  add("threads", "", cxxopts::value(options.threads));
  return bench::run(line, argc, argv, [&] { compare_all(options); });
}
