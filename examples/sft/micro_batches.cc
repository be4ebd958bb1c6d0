#include "examples/sft/micro_batches.h"

#include <algorithm>
#include <numeric>

#include "examples/common/distributed_sampler.h"

namespace sft {
namespace {

// Without weights.
std::vector<std::vector<MicroBatch>> deal(const BatchPlan& plan, int rank, std::size_t samples) {
  const examples::DistributedSampler sampler(static_cast<std::int64_t>(samples), rank, plan.world_size,
                                             plan.seed);
  std::vector<std::vector<MicroBatch>> epochs(static_cast<std::size_t>(plan.epochs));
  for (int epoch = 0; epoch < plan.epochs; ++epoch) {
    const std::vector<std::int64_t> order = sampler.indices(epoch);
    for (auto next = order.begin(); next != order.end();) {
      const auto end = next + std::min<std::ptrdiff_t>(plan.batch_size, order.end() - next);
      epochs[static_cast<std::size_t>(epoch)].push_back({{next, end}});
      next = end;
    }
  }
  return epochs;
}

}  // namespace

std::vector<std::vector<MicroBatch>> micro_batches(const BatchPlan& plan, int rank,
                                                   const std::vector<std::int64_t>& counted_tokens) {
  const auto tokens_of = [&](const MicroBatch& batch) {
    return std::accumulate(batch.samples.begin(), batch.samples.end(), std::int64_t{0},
                           [&](std::int64_t sum, std::int64_t sample) {
                             return sum + counted_tokens[static_cast<std::size_t>(sample)];
                           });
  };
  // Calls with each micro batch of a rank and the number of its optimizer step.
  const auto visit = [&](auto& epochs, const auto& work) {
    std::size_t micro_step = 0;
    for (auto& epoch : epochs)
      for (auto& batch : epoch) work(batch, micro_step++ / static_cast<std::size_t>(plan.accumulation_steps));
  };
  std::vector<std::int64_t> tokens_of_step;
  for (int other = 0; other < plan.world_size; ++other) {
    const auto dealt = deal(plan, other, counted_tokens.size());
    visit(dealt, [&](const MicroBatch& batch, std::size_t step) {
      tokens_of_step.resize(std::max(tokens_of_step.size(), step + 1), 0);
      tokens_of_step[step] += tokens_of(batch);
    });
  }
  auto own = deal(plan, rank, counted_tokens.size());
  visit(own, [&](MicroBatch& batch, std::size_t step) {
    const auto shares = static_cast<double>(plan.accumulation_steps * plan.world_size);
    batch.weight = static_cast<double>(tokens_of(batch)) * shares / static_cast<double>(tokens_of_step[step]);
  });
  return own;
}

}  // namespace sft
