#include "runtime/engine/engine_parts.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "comm/base/error.h"
#include "runtime/engine/device.h"
#include "runtime/engine/offload.h"

namespace deepscale {

namespace {

OptimizerConfig choose_optimizer(const Config& config, const std::optional<OptimizerConfig>& from_program) {
  if (config.optimizer) return *config.optimizer;
  if (from_program) return *from_program;
  throw Error(ErrorCode::kInvalidArgument,
              "no optimizer: add an \"optimizer\" section to the config, for example {\"type\": \"AdamW\", "
              "\"params\": {\"lr\": "
              "1e-3}}, or set InitializeOptions::optimizer");
}

std::shared_ptr<Communicator> require_communicator(const InitializeOptions& options) {
  if (options.communicator) return options.communicator;
  if (options.layout.world_size == 1) return make_single_communicator();
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("a world of {} ranks needs InitializeOptions::communicator", options.layout.world_size));
}

// LibTorch's errors go on with a stack trace.
std::string_view first_line(std::string_view text) {
  return text.substr(0, text.find('\n'));
}

// Whether the ranks have one copy of the parameters.
bool plan_sharing(const Config& config, const Communicator& communicator, torch::Device device,
                  const Logger& logger) {
  if (!config.deepscale.share_parameters_on_host) return false;
  const int stage = config.zero.stage;
  const std::string obstacle =
      communicator.size() == 1   ? "there is one rank"
      : !device.is_cpu()         ? "parameters are not on the CPU"
      : stage != 1 && stage != 2 ? fmt::format("it is for stages 1 and 2, not {}", stage)
      : !communicator.has_common_memory()
          ? fmt::format("the ranks of backend '{}' have no memory that all can map", communicator.backend())
          : "";
  if (!obstacle.empty()) logger.info("deepscale.share_parameters_on_host has no effect: {}", obstacle);
  return obstacle.empty();
}

std::shared_ptr<Communicator> with_record(std::shared_ptr<Communicator> communicator,
                                          const std::shared_ptr<CommsRecord>& record) {
  return record ? make_recording_communicator(std::move(communicator), record) : communicator;
}

double squared_norm(const std::vector<at::Tensor>& tensors) {
  if (tensors.empty()) return 0.0;
  const std::vector<at::Tensor> norms = at::_foreach_norm(tensors, 2, at::kFloat);
  return at::stack(norms).to(at::kDouble).square().sum().item<double>();
}

}  // namespace

Engine::Parts::Parts(std::shared_ptr<torch::nn::Module> module, const Config& config,
                     InitializeOptions options)
    : module(std::move(module)),
      tensors(ModelTensors::of(*this->module)),
      config(config),
      logger(options.layout.rank == 0 ? options.logger : Logger()),
      link(options.link),
      comms_record(config.comms_logger.enabled ? std::make_shared<CommsRecord>(config.comms_logger, logger)
                                               : nullptr),
      collectives(with_record(require_communicator(options), comms_record)),
      dtype(to_scalar_type(config.dtype)),
      optimizer_config(choose_optimizer(config, options.optimizer)),
      schedule(config.scheduler, optimizer_config.lr),
      loss_scaler(config.dtype == DType::kFloat16 ? config.loss_scale : LossScaleConfig{.loss_scale = 1.0}),
      recorder(config, options.layout.rank == 0, logger) {
  // A Config that a program made itself may leave this to us.
  if (config.dtype == DType::kFloat16) this->config.check_gradient_overflow = true;
  for (const std::string& warning : config.warnings) logger.warning("{}", warning);
  if (options.device) {
    device = *options.device;
  } else {
    const DeviceChoice choice = choose_device(options.layout);
    device = choice.device;
    logger.info("device: {}", choice.reason);
  }
  const OffloadPlan offload = plan_offload(
      {.config = this->config, .optimizer = optimizer_config, .device = device, .rank = options.layout.rank},
      logger);
  stage = make_zero_stage(
      tensors, collectives,
      {.stage = config.zero.stage,
       .accumulates_gradients = config.gradient_accumulation_steps > 1,
       .shares_parameters = plan_sharing(config, collectives.communicator(), device, logger),
       .dtype = dtype,
       .gradient_dtype = to_scalar_type(config.gradient_accumulation_dtype.value_or(config.dtype)),
       .device = device,
       .masters = offload.masters,
       .bucket_numel = config.zero.reduce_bucket_size,
       .parameters = offload.parameters,
       .gather_limits = {.max_live_numel = config.zero.max_live_parameters,
                         .max_reuse_distance = config.zero.max_reuse_distance,
                         .prefetch_numel = config.zero.prefetch_bucket_size},
       .persistence_threshold = config.zero.param_persistence_threshold});
  flops_profiler = FlopsProfiler::make(config, options.layout.rank == 0, tensors.numel(), logger);
  optimizer = make_optimizer(optimizer_config, stage->layout(), offload.optimizer_file);
  if (device.is_cpu()) step_memory.emplace();  // what is made until here stays
}

double Engine::Parts::global_norm() {
  at::NoGradGuard no_grad;
  at::Tensor squared = at::full({1}, squared_norm(stage->owned_gradients()), at::TensorOptions(at::kFloat));
  collectives.all_reduce(squared, ReduceOp::kSum).wait();
  return std::sqrt(squared.item<double>()) / loss_scaler.scale();
}

// Loss scale and clipping in one factor, so that the optimizer touches each gradient once.
double Engine::Parts::gradient_divisor() const {
  double divisor = loss_scaler.scale();
  if (config.gradient_clipping > 0.0) divisor *= std::max(1.0, (*norm + 1e-6) / config.gradient_clipping);
  return divisor;
}

std::array<double, 2> Engine::Parts::betas(std::int64_t update) const {
  const std::optional<double> momentum = schedule.momentum(update);
  return momentum ? std::array{*momentum, LearningRateSchedule::kCycleBeta2} : optimizer_config.betas;
}

StepResult Engine::Parts::update() {
  begin(Phase::kStep);
  norm = needs_norm() ? std::optional<double>(global_norm()) : std::nullopt;
  // The norm is the same number on every rank, and not finite when any rank has an infinite or undefined
  // gradient.
  const bool overflow = config.check_gradient_overflow && !std::isfinite(*norm);
  const double attempted_scale = loss_scaler.scale();
  if (!overflow) {
    saver.release_tensors();  // of a save in the background, which reads what changes now
    stage->begin_update();
    const std::int64_t update = progress.global_steps - progress.skipped_steps;
    optimizer->step(stage->segments(), {.learning_rate = schedule.learning_rate(update),
                                        .betas = betas(update),
                                        .gradient_divisor = gradient_divisor()});
    stage->publish_parameters();
  }
  if (config.dtype == DType::kFloat16) loss_scaler.update(overflow);
  stage->clear_gradients();
  if (step_memory) step_memory->end_step();
  ++progress.global_steps;
  if (overflow) {
    ++progress.skipped_steps;
    log_skipped_step(attempted_scale);
  }
  log_progress();
  record_step();
  return overflow ? StepResult::kSkipped : StepResult::kUpdated;
}

// Of the error that is being handled: throws it, or the one that it is a consequence of. The other ranks
// would wait for collectives that will never come, and ours must not outlive their buffers.
void Engine::Parts::fail(const char* call) {
  std::exception_ptr first = std::current_exception();
  try {
    stage->rethrow_failure();
  } catch (const std::exception&) {
    first = std::current_exception();
  }
  try {
    std::rethrow_exception(first);
  } catch (const std::exception& error) {
    report(error);
    const std::string reason = fmt::format("{} failed: {}", call, first_line(error.what()));
    saver.give_up(reason);  // files of ranks that may have ended
    if (collectives.size() > 1) collectives.communicator().abort(reason);
    throw;
  }
}

// Collective, where a save is pending.
void Engine::Parts::finish_save() {
  if (!save_is_pending) return;
  save_is_pending = false;
  finish_checkpoint(collectives, saver);
}

void Engine::Parts::begin(Phase phase) {
  recorder.begin(phase);
  if (flops_profiler) flops_profiler->begin(phase);
}

void Engine::Parts::end(Phase phase) {
  recorder.end(phase);
  if (flops_profiler) flops_profiler->end(phase);
}

void Engine::Parts::record_step() {
  StepRecorder::Facts facts{
      .step = progress.global_steps,
      .samples = progress.samples,
      .learning_rate = schedule.learning_rate(progress.global_steps - progress.skipped_steps)};
  if (config.dtype == DType::kFloat16) facts.loss_scale = loss_scaler.scale();
  if (losses.defined())
    facts.loss = losses.item<double>() / static_cast<double>(config.gradient_accumulation_steps);
  losses.reset();
  end(Phase::kStep);
  recorder.end_of_step(facts);
  if (flops_profiler) flops_profiler->end_of_step(progress.global_steps);
}

void Engine::Parts::log_skipped_step(double attempted_scale) {
  if (config.dtype == DType::kFloat16) {
    logger.info("step {}: gradient overflow, step skipped; loss scale {} -> {}", progress.global_steps,
                attempted_scale, loss_scaler.scale());
  } else {
    logger.warning("step {}: a gradient is infinite or not a number, step skipped", progress.global_steps);
  }
}

void Engine::Parts::log_progress() {
  if (config.steps_per_print <= 0 || progress.global_steps % config.steps_per_print != 0) return;
  logger.info("step={}, skipped={}, lr={:.6g}, loss scale={}", progress.global_steps, progress.skipped_steps,
              schedule.learning_rate(progress.global_steps - progress.skipped_steps), loss_scaler.scale());
}

}  // namespace deepscale
