// How the parameters, gradients and masters of a model lie on this rank, and what travels between the ranks:
// the part of training in which ZeRO's stages differ. The Engine drives a stage through these steps, once per
// optimizer step:
//
//   { begin_backward -> autograd runs, gradients are taken -> end_backward }  per micro batch
//   owned_gradients (for the norm) -> begin_update -> segments (for the optimizer) -> publish_parameters ->
//   clear_gradients
//
//   stage                  parameters   gradients           optimizer runs on
//   single process         the module's the module's        every parameter
//   0 (data parallel)      arena        arena, all-reduced  the whole arena, on every rank
//   1, accumulating        arena        arena, reduced      this rank's slice of every bucket
//   1 otherwise, 2         arena        this rank's slices  this rank's slice of every bucket
//   3                      sharded      this rank's slices  this rank's slice of every bucket
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/master_weights.h"
#include "runtime/engine/model_tensors.h"
#include "runtime/engine/optimizer.h"
#include "runtime/engine/parameter_storage.h"
#include "runtime/engine/tensor_collectives.h"
#include "runtime/zero/gather_schedule.h"

namespace deepscale {

// A run of elements of one parameter that lies in a segment.
struct SegmentPiece {
  std::size_t segment;  // index into segments()
  std::int64_t segment_offset;
  std::string parameter;  // its name
  std::int64_t parameter_offset;
  std::int64_t numel;
};

class ZeroStage {
 public:
  virtual ~ZeroStage() = default;

  // `boundary`: gradients of this and the earlier micro batches are complete after this pass.
  virtual void begin_backward(bool boundary) = 0;
  // Waits for all reductions that the pass started.
  virtual void end_backward() = 0;

  // What this rank's optimizer updates. Gradients are valid after end_backward() of a boundary.
  virtual const std::vector<Segment>& segments() = 0;
  // The same, with gradients that may be undefined.
  virtual const std::vector<Segment>& layout() const = 0;
  // What the segments are made of, but for padding.
  virtual std::vector<SegmentPiece> pieces() const = 0;
  // Whether a checkpoint takes the pieces from this rank, where several ranks have the same ones.
  virtual bool saves_pieces() const { return true; }
  // As ParameterStorage::frozen_shards().
  virtual std::vector<ParameterStorage::FrozenShard> frozen_shards() const { return {}; }
  // Pieces that cover every gradient element once over all ranks together.
  virtual std::vector<at::Tensor> owned_gradients() = 0;
  // Before anybody changes parameters that the model reads. Collective; blocks until all ranks are here,
  // where they have one copy.
  virtual void begin_update() {}
  // Gives every rank the updated parameters.
  virtual void publish_parameters() = 0;
  virtual void clear_gradients() = 0;
  // Rethrows what went wrong while an operator ran, where it could not be thrown.
  virtual void rethrow_failure() {}

  virtual std::int64_t parameter_bytes() const = 0;
  virtual std::int64_t gradient_bytes() const = 0;
};

struct ZeroStageOptions {
  int stage = 0;
  bool accumulates_gradients = true;           // over several micro batches
  bool shares_parameters = false;              // stages 1 and 2 on the CPU, with common memory
  at::ScalarType dtype = at::kFloat;           // of parameters and computation
  at::ScalarType gradient_dtype = at::kFloat;  // of accumulated gradients
  c10::Device device = c10::Device(c10::kCPU);
  MasterPlacement masters;
  std::int64_t bucket_numel = 500'000'000;
  // Stage 3.
  ParameterPlacement parameters;
  GatherLimits gather_limits;
  std::int64_t persistence_threshold = 100'000;  // elements
};

// Takes over the tensors: moves them to device and dtype, gives all ranks rank 0's values. Collective.
std::unique_ptr<ZeroStage> make_zero_stage(const ModelTensors& tensors, TensorCollectives& collectives,
                                           const ZeroStageOptions& options);

}  // namespace deepscale
