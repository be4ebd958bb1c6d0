// A world of one: the module's own tensors, and nothing in the way.
#pragma once

#include "runtime/engine/zero_stage.h"

namespace deepscale {

class SingleProcessStage : public ZeroStage {
 public:
  SingleProcessStage(const ModelTensors& tensors, const ZeroStageOptions& options);

  void begin_backward(bool) override {}
  void end_backward() override;
  const std::vector<Segment>& segments() override;
  const std::vector<Segment>& layout() const override { return segments_; }
  std::vector<SegmentPiece> pieces() const override;
  std::vector<at::Tensor> owned_gradients() override;
  void publish_parameters() override {}
  void clear_gradients() override;
  std::int64_t parameter_bytes() const override;
  std::int64_t gradient_bytes() const override;

 private:
  bool has_accumulators() const { return !accumulators_.empty(); }
  at::Tensor gradient_of(std::size_t index);

  std::vector<at::Tensor> parameters_;
  std::vector<std::string> names_;
  std::vector<at::Tensor>
      accumulators_;  // only where gradients are kept in another dtype than the parameters'
  std::vector<Segment> segments_;
};

}  // namespace deepscale
