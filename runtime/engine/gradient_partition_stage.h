// Stages 2 and 3, and 1 where a step has one micro batch: gradients are partitioned too. Every micro batch's
// gradients go through staging buffers of one bucket each, are reduce-scattered as soon as a bucket is
// complete, and only this rank's slices are kept and accumulated. A slice gets its memory when its bucket is
// reduced, where activations were a moment ago, and gives it back after the update, but for stage 3. A
// parameter that fills a bucket alone (an embedding) is reduced from where autograd left its gradient.
#pragma once

#include <deque>

#include "runtime/engine/flat_stage.h"

namespace deepscale {

class GradientPartitionStage : public FlatStage {
 public:
  GradientPartitionStage(const ModelTensors& tensors, TensorCollectives& collectives,
                         const ZeroStageOptions& options);
  std::vector<at::Tensor> owned_gradients() override;
  void clear_gradients() override;
  std::int64_t gradient_bytes() const override;

 private:
  struct Staging {
    at::Tensor values;  // of the bucket, at least
    bool is_pooled = false;
  };
  struct Reduction {
    TensorWork work;
    Staging staging;
    at::Tensor reduced;  // this rank's slice of the micro batch
    int bucket;
  };

  at::Tensor gradient_place(int parameter) override;
  bool adds_to_earlier_gradient(int) const override { return false; }
  bool adopts_gradient(int parameter, const at::Tensor& gradient) override;
  void reduce_bucket(int bucket) override;
  void finish_reductions() override;

  bool is_one_parameter(int bucket) const;
  Staging take_staging(int bucket);
  void finish_oldest_reduction();

  const at::TensorOptions tensor_options_;
  std::vector<Staging> staging_;          // per bucket; empty where no gradient of it came yet
  std::int64_t pooled_numel_ = 0;         // of the largest bucket that is not one parameter
  std::vector<at::Tensor> free_staging_;  // the pool
  std::deque<Reduction> in_flight_;
  bool is_first_micro_batch_ = true;
};

}  // namespace deepscale
