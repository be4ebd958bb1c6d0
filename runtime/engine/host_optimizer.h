// An optimizer whose arithmetic runs on the CPU (runtime/offload/optimizer_kernels.h), in one pass over
// gradient, master, moments and parameter, on LibTorch's threads.
//
// Its state is in host memory, or in a StateFile that is streamed. Gradients and parameters may be on another
// device, and parameters in a file: they pass through buffers of a bounded size, which are pinned on the way
// to a device, and only they travel.
#pragma once

#include <functional>

#include "runtime/engine/optimizer.h"
#include "runtime/offload/host_buffer.h"
#include "runtime/offload/optimizer_kernels.h"

namespace deepscale {

class HostOptimizer final : public Optimizer {
 public:
  // `file`: null, or one to whose segments those of the layout that have no master were added, in order. It
  // has a master quantity if and only if the masters are there.
  HostOptimizer(const OptimizerConfig& config, const std::vector<Segment>& layout,
                std::shared_ptr<StateFile> file);

  void step(const std::vector<Segment>& segments, const StepOptions& options) override;
  std::vector<std::string> quantities() const override;
  at::Tensor read(const Range& range) override;
  bool reads_in_place(const Range& range) const override { return !is_in_file(range.quantity); }
  bool reads_from_file(const Range& range) const override { return is_in_file(range.quantity); }
  void write(const Range& range, const at::Tensor& values) override;
  std::int64_t state_bytes() const override;

 private:
  struct Run;  // elements of one segment that are updated together

  void update_in_memory(const std::vector<Segment>& segments, const UpdateRule& rule);
  void update_in_file(const std::vector<Segment>& segments, const UpdateRule& rule);
  void update_runs(std::vector<Run> runs, const UpdateRule& rule);
  ParameterSlice written_parameter(std::size_t segment, std::int64_t begin, std::int64_t numel) const;
  at::Tensor buffer_for(at::Tensor& buffer, const ParameterSlice& slice, std::int64_t numel);
  bool is_in_file(const std::string& quantity) const;
  int file_quantity(const std::string& quantity) const;
  float* in_memory(const std::string& quantity, std::size_t segment) const;

  OptimizerConfig config_;
  std::vector<Segment> layout_;
  std::vector<std::int64_t> numels_;
  std::shared_ptr<StateFile> file_;
  std::vector<std::string> file_quantities_;
  std::vector<std::int64_t> first_elements_;  // of each segment, in the file
  // Moments in memory: a buffer for each, segment behind segment.
  HostBuffer first_moments_, second_moments_;
  std::vector<std::int64_t> offsets_;  // of each segment, in elements
  at::Tensor staged_gradient_, staged_parameter_;
};

}  // namespace deepscale
