// Two optimizers over one layout: that of the segments which are offloaded, and that of the others, which
// stay on the model's device (offload_optimizer.ratio).
#pragma once

#include <utility>

#include "runtime/engine/optimizer.h"

namespace deepscale {

class SplitOptimizer final : public Optimizer {
 public:
  // `offloaded`, `kept`: over those segments of the layout, in its order.
  SplitOptimizer(const std::vector<Segment>& layout, std::unique_ptr<Optimizer> offloaded,
                 std::unique_ptr<Optimizer> kept);

  void step(const std::vector<Segment>& segments, const StepOptions& options) override;
  std::vector<std::string> quantities() const override { return parts_[0]->quantities(); }
  at::Tensor read(const Range& range) override;
  bool reads_in_place(const Range& range) const override;
  bool reads_from_file(const Range& range) const override;
  void write(const Range& range, const at::Tensor& values) override;
  void restore_steps(std::int64_t steps) override;
  std::int64_t state_bytes() const override;

 private:
  using Place = std::pair<Optimizer*, Range>;  // the part, and the range in it
  Place place_of(const Range& range) const;

  std::array<std::unique_ptr<Optimizer>, 2> parts_;
  std::vector<std::pair<std::size_t, std::size_t>>
      places_;  // of each segment: its part, and its number there
};

// The segments that are, or are not, offloaded.
std::vector<Segment> segments_where(const std::vector<Segment>& segments, bool is_offloaded);

}  // namespace deepscale
