#include "runtime/engine/optimizer.h"

#include <torch/torch.h>

#include "runtime/offload/optimizer_kernels.h"

namespace deepscale {

namespace {

// Converted gradients of one kernel call, in elements: 64 MiB of fp32.
constexpr std::int64_t kMaxConvertedNumel = 16 * 1024 * 1024;
// A step at which both of Adam's bias corrections are exactly 1.
constexpr double kStepWithoutBiasCorrection = 1e9;

}  // namespace

struct Optimizer::Batch {
  std::vector<at::Tensor> masters, gradients, first_moments, second_moments;
  std::vector<at::Tensor> parameters;  // where they differ from the masters; else empty
  std::int64_t converted_numel = 0;

  void clear() { *this = Batch(); }
};

Optimizer::Optimizer(const OptimizerConfig& config, const std::vector<at::Tensor>& masters)
    : config_(config) {
  for (const at::Tensor& master : masters) {
    if (has_first_moment(config)) first_moments_.push_back(at::zeros_like(master));
    if (has_second_moment(config)) second_moments_.push_back(at::zeros_like(master));
  }
  const auto device = masters.empty() ? at::Device(at::kCPU) : masters.front().device();
  kernel_step_ = at::full({}, config.bias_correction ? 0.0 : kStepWithoutBiasCorrection,
                          at::TensorOptions(at::kFloat).device(device));
}

void Optimizer::step(const std::vector<Segment>& segments, const StepOptions& options) {
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
      if (segment.parameter.scalar_type() != at::kFloat) batch.parameters.push_back(part(segment.parameter));
      if (converts) batch.converted_numel += count;
    }
  }
  update(batch, options);
  ++steps_;
}

void Optimizer::update(Batch& batch, const StepOptions& options) {
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

void Optimizer::update_lion(Batch& batch, const StepOptions& options) {
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

void Optimizer::update_adagrad(Batch& batch, const StepOptions& options) {
  for (std::size_t i = 0; i < batch.masters.size(); ++i) {
    at::Tensor& gradient = batch.gradients[i];
    if (options.gradient_divisor != 1.0) gradient.div_(options.gradient_divisor);
    if (config_.weight_decay != 0.0) gradient.add_(batch.masters[i], config_.weight_decay);
    batch.second_moments[i].addcmul_(gradient, gradient);
    batch.masters[i].addcdiv_(gradient, batch.second_moments[i].sqrt().add_(config_.eps),
                              -options.learning_rate);
  }
}

std::vector<Optimizer::Moments> Optimizer::moments() const {
  std::vector<Moments> moments;
  if (!first_moments_.empty()) moments.push_back({"exp_avg", first_moments_});
  if (!second_moments_.empty()) moments.push_back({"exp_avg_sq", second_moments_});
  return moments;
}

void Optimizer::restore_steps(std::int64_t steps) {
  steps_ = steps;
  if (config_.bias_correction) kernel_step_.fill_(static_cast<double>(steps));
}

std::int64_t Optimizer::state_bytes() const {
  std::int64_t bytes = 0;
  for (const auto* moments : {&first_moments_, &second_moments_}) {
    for (const at::Tensor& moment : *moments) bytes += static_cast<std::int64_t>(moment.nbytes());
  }
  return bytes;
}

}  // namespace deepscale
