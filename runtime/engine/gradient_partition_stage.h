// Stages 2 and 3: gradients are partitioned too. Every micro batch's gradients go through staging buffers of
// one bucket each, are reduce-scattered as soon as a bucket is complete, and only this rank's slices are kept
// and accumulated.
#pragma once

#include <deque>

#include "runtime/engine/flat_stage.h"

namespace deepscale {

class GradientPartitionStage : public FlatStage {
 public:
  GradientPartitionStage(const ModelTensors& tensors, TensorCollectives& collectives,
                         const ZeroStageOptions& options);
  std::vector<at::Tensor> owned_gradients() override;
  void clear_gradients() override { is_first_micro_batch_ = true; }
  std::int64_t gradient_bytes() const override { return static_cast<std::int64_t>(shard_.nbytes()); }

 private:
  struct Reduction {
    TensorWork work;
    at::Tensor staging;
    at::Tensor reduced;  // this rank's slice of the micro batch
    int bucket;
  };

  at::Tensor gradient_place(int parameter) override;
  bool adds_to_earlier_gradient(int) const override { return false; }
  void reduce_bucket(int bucket) override;
  void finish_reductions() override;

  at::Tensor take_staging(int bucket);
  void finish_oldest_reduction();

  at::Tensor shard_;                      // this rank's slices, one bucket after another
  std::vector<at::Tensor> staging_;       // per bucket; empty where no gradient of it came yet
  std::vector<at::Tensor> free_staging_;  // of the largest bucket's size
  std::deque<Reduction> in_flight_;
  bool is_first_micro_batch_ = true;
};

}  // namespace deepscale
