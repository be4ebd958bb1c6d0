// What stages 0, 1 and 2 share: parameters in an arena, hooks that take gradients, buckets that are reduced
// in a fixed order.
//
// Parameters lie in reverse order of registration, about the order in which backward produces their
// gradients. A gradient is copied (later micro batches: added) to its place and released at once, so the
// module's own gradients never pile up.
#pragma once

#include <memory>
#include <vector>

#include "runtime/engine/flat_arena.h"
#include "runtime/engine/gradient_hooks.h"
#include "runtime/engine/zero_stage.h"
#include "runtime/zero/bucket_tracker.h"
#include "runtime/zero/partition_plan.h"

namespace deepscale {

class FlatStage : public ZeroStage {
 public:
  void begin_backward(bool boundary) override;
  void end_backward() override;
  const std::vector<Segment>& segments() override { return segments_; }
  std::int64_t parameter_bytes() const override { return parameter_arena_.bytes(); }

 protected:
  FlatStage(const ModelTensors& tensors, TensorCollectives& collectives, const ZeroStageOptions& options);

  enum class Ownership { kWhole, kSlice };  // what of every bucket this rank's optimizer updates
  // Called once by the subclass's constructor: moves the parameters into the arena and makes the segments,
  // gradients still empty.
  void take_parameters(Ownership ownership);

  // Where the gradient of `parameter` belongs in this pass, and whether something is there already to add to.
  virtual at::Tensor gradient_place(int parameter) = 0;
  virtual bool adds_to_earlier_gradient(int parameter) const = 0;
  // All gradients of the bucket are in place.
  virtual void reduce_bucket(int bucket) = 0;
  virtual void finish_reductions() = 0;

  // After a step on slices: every rank gets all buckets.
  void all_gather_parameters();

  int bucket_count() const { return static_cast<int>(plan_.buckets().size()); }
  bool at_boundary() const { return at_boundary_; }

  TensorCollectives& collectives_;
  const ZeroStageOptions options_;
  const PartitionPlan plan_;
  std::vector<Segment> segments_;  // one per bucket

 private:
  void take_gradient(int parameter);
  void fill_master(int parameter, const at::Tensor& values, Ownership ownership);

  std::vector<at::Tensor> parameters_;
  FlatArena parameter_arena_;
  BucketTracker tracker_;
  bool at_boundary_ = false;
  std::unique_ptr<GradientHooks> hooks_;
};

}  // namespace deepscale
