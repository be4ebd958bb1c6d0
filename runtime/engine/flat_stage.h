// What all stages of more than one rank share: a plan of buckets, hooks that take gradients, buckets that are
// reduced in a fixed order. Where the parameters live is up to a ParameterStorage.
//
// Parameters lie in reverse order of registration, about the order in which backward produces their
// gradients. A gradient is copied (later micro batches: added) to its place and released at once, so the
// module's own gradients never pile up.
#pragma once

#include <memory>
#include <vector>

#include "runtime/engine/gradient_hooks.h"
#include "runtime/engine/parameter_storage.h"
#include "runtime/engine/sharded_parameters.h"
#include "runtime/engine/zero_stage.h"
#include "runtime/zero/bucket_tracker.h"
#include "runtime/zero/partition_plan.h"

namespace deepscale {

class FlatStage : public ZeroStage {
 public:
  void begin_backward(bool boundary) override;
  void end_backward() override;
  const std::vector<Segment>& segments() override { return segments_; }
  const std::vector<Segment>& layout() const override { return segments_; }
  std::vector<SegmentPiece> pieces() const override;
  bool saves_pieces() const override { return options_.stage != 0 || collectives_.rank() == 0; }
  void begin_update() override { storage_->begin_update(); }
  void publish_parameters() override { storage_->publish(); }
  void rethrow_failure() override { storage_->rethrow_failure(); }
  std::vector<ParameterStorage::FrozenShard> frozen_shards() const override {
    return storage_->frozen_shards();
  }
  std::int64_t parameter_bytes() const override { return storage_->bytes(); }

 protected:
  // Makes the segments, gradients still empty.
  FlatStage(const ModelTensors& tensors, TensorCollectives& collectives, const ZeroStageOptions& options);

  // Where the gradient of `parameter` belongs in this pass, and whether something is there already to add to.
  virtual at::Tensor gradient_place(int parameter) = 0;
  virtual bool adds_to_earlier_gradient(int parameter) const = 0;
  // Takes a flat gradient as it is, where it need not be copied to its place.
  virtual bool adopts_gradient(int parameter, const at::Tensor& gradient) {
    (void)parameter, (void)gradient;
    return false;
  }
  // All gradients of the bucket are in place.
  virtual void reduce_bucket(int bucket) = 0;
  virtual void finish_reductions() = 0;

  int bucket_count() const { return static_cast<int>(plan_.buckets().size()); }
  bool at_boundary() const { return at_boundary_; }

  TensorCollectives& collectives_;
  const ZeroStageOptions options_;
  const PartitionPlan plan_;
  std::vector<Segment> segments_;  // one per bucket

 private:
  FlatStage(const ModelTensors& tensors, const ParameterGroups& layout, TensorCollectives& collectives,
            const ZeroStageOptions& options);
  void take_parameters();
  void adopt_written(int bucket, const at::Tensor& values);
  void take_gradient(int parameter);

  std::vector<at::Tensor> parameters_;  // in the order of the plan
  std::vector<std::string> names_;      // of each
  std::unique_ptr<ParameterStorage> storage_;
  MasterWeights masters_;
  BucketTracker tracker_;
  bool at_boundary_ = false;
  std::unique_ptr<GradientHooks> hooks_;
};

}  // namespace deepscale
