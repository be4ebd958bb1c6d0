#include "runtime/engine/tensor_optimizer.h"

#include <torch/torch.h>

#include "runtime/offload/optimizer_kernels.h"

namespace deepscale {

namespace {

// Converted gradients of one kernel call, in elements: 64 MiB of fp32.
constexpr std::int64_t kMaxConvertedNumel = 16 * 1024 * 1024;
// A step at which both of Adam's bias corrections are exactly 1.
constexpr double kStepWithoutBiasCorrection = 1e9;

}  // namespace

struct TensorOptimizer::Batch {
  std::vector<at::Tensor> masters, gradients, first_moments, second_moments;
  std::vector<at::Tensor> parameters;  // where they differ from the masters; else empty
  std::int64_t converted_numel = 0;

  void clear() { *this = Batch(); }
};

TensorOptimizer::TensorOptimizer(const OptimizerConfig& config, const std::vector<Segment>& layout)
    : config_(config), layout_(layout) {
  for (const Segment& segment : layout) {
    if (has_first_moment(config)) first_moments_.push_back(at::zeros_like(segment.master));
    if (has_second_moment(config)) second_moments_.push_back(at::zeros_like(segment.master));
  }
  const auto device = layout.empty() ? at::Device(at::kCPU) : layout.front().master.device();
  kernel_step_ = at::full({}, config.bias_correction ? 0.0 : kStepWithoutBiasCorrection,
                          at::TensorOptions(at::kFloat).device(device));
}

void TensorOptimizer::step(const std::vector<Segment>& segments, const StepOptions& options) {
  at::NoGradGuard no_grad;
  if (config_.bias_correction) kernel_step_.add_(1.0);
  Batch batch;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const bool converts = segment.gradient.scalar_type() != at::kFloat;
    const std::int64_t piece = converts ? kMaxConvertedNumel : segment.master.numel();
    for (std::int64_t begin = 0; begin < segment.master.numel(); begin += piece) {
      const std::int64_t count = std::min(piece, segment.master.numel() - begin);
      const auto part = [&](const at::Tensor& tensor) { return tensor.view({-1}).narrow(0, begin, count); };
      if (converts && batch.converted_numel + count > kMaxConvertedNumel) {
        update(batch, options);
        batch.clear();
      }
      batch.masters.push_back(part(segment.master));
      batch.gradients.push_back(converts ? part(segment.gradient).to(at::kFloat) : part(segment.gradient));
      if (!first_moments_.empty()) batch.first_moments.push_back(part(first_moments_[i]));
      if (!second_moments_.empty()) batch.second_moments.push_back(part(second_moments_[i]));
      if (segment.parameter.dtype() != at::kFloat)
        batch.parameters.push_back(part(segment.parameter.tensor()));
      if (converts) batch.converted_numel += count;
    }
  }
  update(batch, options);
  ++steps_;
}

void TensorOptimizer::update(Batch& batch, const StepOptions& options) {
  if (batch.masters.empty()) return;
  std::optional<at::Tensor> divisor;
  if (options.gradient_divisor != 1.0) {
    divisor = at::full({}, options.gradient_divisor, batch.masters.front().options());
  }
  const std::vector<at::Tensor> steps(batch.masters.size(), kernel_step_);
  switch (config_.kind) {
    case OptimizerKind::kAdamW:
      at::_fused_adamw_(batch.masters, batch.gradients, batch.first_moments, batch.second_moments, {}, steps,
                        options.learning_rate, options.betas[0], options.betas[1], config_.weight_decay,
                        config_.eps,
                        /*amsgrad=*/false, /*maximize=*/false, divisor);
      break;
    case OptimizerKind::kAdam:
      at::_fused_adam_(batch.masters, batch.gradients, batch.first_moments, batch.second_moments, {}, steps,
                       options.learning_rate, options.betas[0], options.betas[1], config_.weight_decay,
                       config_.eps,
                       /*amsgrad=*/false, /*maximize=*/false, divisor);
      break;
    case OptimizerKind::kSgd:
      at::_fused_sgd_(batch.masters, batch.gradients, batch.first_moments, config_.weight_decay,
                      config_.momentum, options.learning_rate, config_.dampening, config_.nesterov,
                      /*maximize=*/false,
                      /*is_first_step=*/steps_ == 0, divisor);
      break;
    case OptimizerKind::kLion:
      update_lion(batch, options);
      break;
    case OptimizerKind::kAdagrad:
      update_adagrad(batch, options);
      break;
  }
  for (std::size_t i = 0; i < batch.parameters.size(); ++i) batch.parameters[i].copy_(batch.masters[i]);
}

void TensorOptimizer::update_lion(Batch& batch, const StepOptions& options) {
  for (std::size_t i = 0; i < batch.masters.size(); ++i) {
    at::Tensor& gradient = batch.gradients[i];
    at::Tensor& momentum = batch.first_moments[i];
    if (options.gradient_divisor != 1.0) gradient.div_(options.gradient_divisor);
    const at::Tensor direction =
        momentum.mul(options.betas[0]).add_(gradient, 1.0 - options.betas[0]).sign_();
    batch.masters[i]
        .mul_(1.0 - options.learning_rate * config_.weight_decay)
        .sub_(direction, options.learning_rate);
    momentum.mul_(options.betas[1]).add_(gradient, 1.0 - options.betas[1]);
  }
}

void TensorOptimizer::update_adagrad(Batch& batch, const StepOptions& options) {
  for (std::size_t i = 0; i < batch.masters.size(); ++i) {
    at::Tensor& gradient = batch.gradients[i];
    if (options.gradient_divisor != 1.0) gradient.div_(options.gradient_divisor);
    if (config_.weight_decay != 0.0) gradient.add_(batch.masters[i], config_.weight_decay);
    batch.second_moments[i].addcmul_(gradient, gradient);
    batch.masters[i].addcdiv_(gradient, batch.second_moments[i].sqrt().add_(config_.eps),
                              -options.learning_rate);
  }
}

std::vector<std::string> TensorOptimizer::quantities() const {
  std::vector<std::string> quantities = {"master"};
  if (!first_moments_.empty()) quantities.push_back("exp_avg");
  if (!second_moments_.empty()) quantities.push_back("exp_avg_sq");
  return quantities;
}

at::Tensor TensorOptimizer::place_of(const Range& range) const {
  const at::Tensor& whole = range.quantity == "master"    ? layout_[range.segment].master
                            : range.quantity == "exp_avg" ? first_moments_[range.segment]
                                                          : second_moments_[range.segment];
  return whole.view({-1}).narrow(0, range.begin, range.numel);
}

at::Tensor TensorOptimizer::read(const Range& range) {
  return place_of(range).cpu();
}

bool TensorOptimizer::reads_in_place(const Range&) const {
  return kernel_step_.is_cpu();
}

void TensorOptimizer::write(const Range& range, const at::Tensor& values) {
  place_of(range).copy_(values);
}

void TensorOptimizer::restore_steps(std::int64_t steps) {
  steps_ = steps;
  if (config_.bias_correction) kernel_step_.fill_(static_cast<double>(steps));
}

std::int64_t TensorOptimizer::state_bytes() const {
  std::int64_t bytes = masters_bytes(layout_);
  for (const auto* moments : {&first_moments_, &second_moments_}) {
    for (const at::Tensor& moment : *moments) bytes += static_cast<std::int64_t>(moment.nbytes());
  }
  return bytes;
}

}  // namespace deepscale
