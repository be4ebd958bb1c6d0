// Stages 0 and 1: every rank keeps whole gradients and reduces them once per optimizer step, at the boundary.
#pragma once

#include "runtime/engine/flat_arena.h"
#include "runtime/engine/flat_stage.h"

namespace deepscale {

class WholeGradientStage : public FlatStage {
 public:
  std::vector<at::Tensor> owned_gradients() override;
  void clear_gradients() override;
  std::int64_t gradient_bytes() const override { return gradient_arena_.bytes(); }

 protected:
  WholeGradientStage(const ModelTensors& tensors, TensorCollectives& collectives,
                     const ZeroStageOptions& options);

  // Starts the reduction of one bucket of the gradient arena.
  virtual TensorWork start_reduction(int bucket) = 0;

  FlatArena gradient_arena_;

 private:
  at::Tensor gradient_place(int parameter) override;
  bool adds_to_earlier_gradient(int parameter) const override;
  void reduce_bucket(int bucket) override;
  void finish_reductions() override;

  std::vector<bool> has_gradient_;  // per parameter, since clear_gradients()
  std::vector<TensorWork> in_flight_;
};

// Stage 0: gradients are all-reduced, every rank updates everything.
class DataParallelStage : public WholeGradientStage {
 public:
  DataParallelStage(const ModelTensors& tensors, TensorCollectives& collectives,
                    const ZeroStageOptions& options);

 private:
  TensorWork start_reduction(int bucket) override;
};

// Stage 1 with several micro batches: optimizer state is partitioned; each rank gets the reduced gradient of
// its slices.
class OptimizerPartitionStage : public WholeGradientStage {
 public:
  OptimizerPartitionStage(const ModelTensors& tensors, TensorCollectives& collectives,
                          const ZeroStageOptions& options);

 private:
  TensorWork start_reduction(int bucket) override;
};

}  // namespace deepscale
