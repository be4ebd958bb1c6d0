#include "runtime/engine/split_optimizer.h"

#include <algorithm>
#include <iterator>

namespace deepscale {

std::vector<Segment> segments_where(const std::vector<Segment>& segments, bool is_offloaded) {
  std::vector<Segment> found;
  std::copy_if(segments.begin(), segments.end(), std::back_inserter(found),
               [&](const Segment& segment) { return segment.is_offloaded == is_offloaded; });
  return found;
}

SplitOptimizer::SplitOptimizer(const std::vector<Segment>& layout, std::unique_ptr<Optimizer> offloaded,
                               std::unique_ptr<Optimizer> kept)
    : parts_{std::move(offloaded), std::move(kept)} {
  std::array<std::size_t, 2> counts = {};
  for (const Segment& segment : layout) {
    const std::size_t part = segment.is_offloaded ? 0 : 1;
    places_.emplace_back(part, counts[part]++);
  }
}

void SplitOptimizer::step(const std::vector<Segment>& segments, const StepOptions& options) {
  parts_[1]->step(segments_where(segments, false), options);
  parts_[0]->step(segments_where(segments, true), options);
  ++steps_;
}

SplitOptimizer::Place SplitOptimizer::place_of(const Range& range) const {
  const auto [part, segment] = places_.at(range.segment);
  Range there = range;
  there.segment = segment;
  return {parts_[part].get(), there};
}

at::Tensor SplitOptimizer::read(const Range& range) {
  const auto [part, there] = place_of(range);
  return part->read(there);
}

bool SplitOptimizer::reads_in_place(const Range& range) const {
  const auto [part, there] = place_of(range);
  return part->reads_in_place(there);
}

bool SplitOptimizer::reads_from_file(const Range& range) const {
  const auto [part, there] = place_of(range);
  return part->reads_from_file(there);
}

void SplitOptimizer::write(const Range& range, const at::Tensor& values) {
  const auto [part, there] = place_of(range);
  part->write(there, values);
}

void SplitOptimizer::restore_steps(std::int64_t steps) {
  steps_ = steps;
  for (const auto& part : parts_) part->restore_steps(steps);
}

std::int64_t SplitOptimizer::state_bytes() const {
  return parts_[0]->state_bytes() + parts_[1]->state_bytes();
}

}  // namespace deepscale
