#include "runtime/engine/optimizer.h"

#include <torch/torch.h>

#include "runtime/engine/host_optimizer.h"
#include "runtime/engine/split_optimizer.h"
#include "runtime/engine/tensor_optimizer.h"

namespace deepscale {

std::int64_t masters_bytes(const std::vector<Segment>& segments) {
  std::int64_t bytes = 0;
  for (const Segment& segment : segments) {
    if (segment.master.defined() && segment.has_master_apart())
      bytes += static_cast<std::int64_t>(segment.master.nbytes());
  }
  return bytes;
}

namespace {

std::unique_ptr<Optimizer> make_part(const OptimizerConfig& config, const std::vector<Segment>& layout,
                                     std::shared_ptr<StateFile> file) {
  const bool on_host = file || layout.empty() || layout.front().master.is_cpu();
  if (on_host) return std::make_unique<HostOptimizer>(config, layout, std::move(file));
  return std::make_unique<TensorOptimizer>(config, layout);
}

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, const std::vector<Segment>& layout,
                                          std::shared_ptr<StateFile> file) {
  const std::vector<Segment> kept = segments_where(layout, false);
  if (kept.empty()) return make_part(config, layout, std::move(file));
  if (kept.size() == layout.size()) return make_part(config, layout, nullptr);
  return std::make_unique<SplitOptimizer>(layout,
                                          make_part(config, segments_where(layout, true), std::move(file)),
                                          make_part(config, kept, nullptr));
}

}  // namespace deepscale
