// Training and evaluating on samples, on every rank of the job together.
//
// Collective: all ranks call these with the same data and options. Failures are those of the Engine.
#pragma once

#include <torch/types.h>

#include <vector>

#include "examples/sft/instruction_data.h"
#include "examples/sft/micro_batches.h"
#include "examples/sft/options.h"
#include "runtime/engine/engine.h"
#include "runtime/pretrained/model_config.h"

namespace sft {

// Samples side by side, padded on the right. int64 [samples, tokens] both; a label is kIgnoredLabel where a
// token does not count.
struct Batch {
  torch::Tensor tokens, labels;
};
struct BatchOptions {
  std::int64_t padding = 0;  // token
  bool counts_prompt = false;
};
Batch make_batch(const std::vector<const Sample*>& samples, const BatchOptions& options);

// Trains epoch by epoch, and evaluates before the first and after each. Rank 0 prints the announcement's
// lines.
class Trainer {
 public:
  Trainer(deepscale::Engine& engine, const deepscale::ModelConfig& model, const Options& options);

  void run(const std::vector<Sample>& training, const std::vector<Sample>& evaluation);

 private:
  // False: the limit of steps is reached.
  bool train_epoch(int epoch, const std::vector<MicroBatch>& micro_batches,
                   const std::vector<Sample>& samples);
  void evaluate(int epoch, const std::vector<Sample>& samples);
  void print_throughput(double seconds, const Batch& batch) const;

  deepscale::Engine& engine_;
  const deepscale::ModelConfig& model_;
  const Options& options_;
  const BatchOptions batch_options_;
  std::int64_t parameters_ = 0;
};

}  // namespace sft
