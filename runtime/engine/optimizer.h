// The optimizer of one rank, over the pieces of the model that the rank updates.
//
// Works on fp32 master weights. On the CPU, and where the optimizer is offloaded to it or to files, the loops
// of runtime/offload do the arithmetic (host_optimizer.h); on another device ATen's kernels
// (tensor_optimizer.h). Not thread-safe.
//
// Adam: Kingma & Ba, 2015. AdamW: Loshchilov & Hutter, 2019. Lion: Chen et al., 2023. Adagrad: Duchi et al.,
// 2011.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/config/config.h"
#include "runtime/engine/parameter_slice.h"
#include "runtime/offload/state_file.h"

namespace deepscale {

// A piece of the model. All have the same number of elements and are contiguous.
struct Segment {
  at::Tensor master;    // fp32; what the optimizer updates; undefined where it is in a file
  at::Tensor gradient;  // floating-point
  // What the model reads; the same tensor as master in fp32 training, where it is one.
  ParameterSlice parameter;
  bool is_offloaded = true;  // where a part of the optimizer's state stays on the model's device: not that

  bool has_master_apart() const { return parameter.is_in_file() || !master.is_same(parameter.tensor()); }
};

// The bytes of masters that are tensors and not the parameters.
std::int64_t masters_bytes(const std::vector<Segment>& segments);

// The quantity of a StateFile that is the master weight, where one holds it.
inline constexpr int kMasterQuantity = 0;

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  struct StepOptions {
    double learning_rate;
    std::array<double, 2> betas;  // of this step (OneCycle moves them); SGD has none
    double gradient_divisor;      // gradients are divided by it first: loss scale times clipping
  };
  // Updates masters and parameters. Gradients may be overwritten. Files: Error(kSystem) naming the file.
  virtual void step(const std::vector<Segment>& segments, const StepOptions& options) = 0;

  // The fp32 values of each segment: "master", and what the optimizer keeps, by DeepSpeed's names.
  virtual std::vector<std::string> quantities() const = 0;
  // A run of elements of one segment.
  struct Range {
    std::string quantity;
    std::size_t segment;
    std::int64_t begin;
    std::int64_t numel;
  };
  // On the CPU, contiguous.
  virtual at::Tensor read(const Range& range) = 0;
  virtual bool reads_in_place(const Range& range) const = 0;          // read() gives the state itself
  virtual bool reads_from_file(const Range&) const { return false; }  // any thread may, meanwhile
  virtual void write(const Range& range, const at::Tensor& values) = 0;

  // Steps taken; set after the quantities were filled from a checkpoint.
  std::int64_t steps() const { return steps_; }
  virtual void restore_steps(std::int64_t steps) { steps_ = steps; }

  // Memory that it holds, in bytes: moments, masters that are not the parameters, buffers.
  virtual std::int64_t state_bytes() const = 0;

 protected:
  std::int64_t steps_ = 0;
};

// State begins as zero. `layout`: the segments as later steps have them, in order and size, gradients
// undefined. `file`: where moments (and masters that the layout lacks) of offloaded segments are; null: in
// memory. State in memory is on the masters' device.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, const std::vector<Segment>& layout,
                                          std::shared_ptr<StateFile> file = nullptr);

}  // namespace deepscale
