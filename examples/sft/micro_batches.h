// Which samples a rank trains on in each micro step, and how much its loss counts.
//
// The loss of an optimizer step is the mean over all tokens that count in it, so it does not depend on how
// the samples of the step are dealt to ranks and micro steps. An Engine averages over both, and the loss of a
// micro step is the mean over its own tokens; the weight turns the one average into the other. Pure values.
#pragma once

#include <cstdint>
#include <vector>

namespace sft {

struct MicroBatch {
  std::vector<std::int64_t> samples;  // indices
  double weight = 1.0;                // of its mean loss
};

struct BatchPlan {
  std::int64_t batch_size = 1;  // of one rank, in one micro step
  std::int64_t accumulation_steps = 1;
  int world_size = 1;
  int epochs = 1;
  std::uint64_t seed = 0;
};

// The micro batches of `rank`, by epoch. `counted_tokens` has those of each sample, at least one. Every rank
// gets as many; optimizer steps may extend from one epoch into the next.
std::vector<std::vector<MicroBatch>> micro_batches(const BatchPlan& plan, int rank,
                                                   const std::vector<std::int64_t>& counted_tokens);

}  // namespace sft
