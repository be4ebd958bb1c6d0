#include "runtime/engine/engine.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "agents/link/rank_link.h"
#include "comm/base/error.h"
#include "runtime/engine/checkpoint.h"
#include "runtime/engine/device.h"
#include "runtime/engine/flops_profiler.h"
#include "runtime/engine/offload.h"
#include "runtime/engine/optimizer.h"
#include "runtime/engine/sharded_tensor.h"
#include "runtime/engine/tensor_collectives.h"
#include "runtime/engine/zero_stage.h"
#include "runtime/monitor/comms_logger.h"
#include "runtime/monitor/step_recorder.h"
#include "runtime/schedule/learning_rate.h"
#include "runtime/schedule/loss_scaler.h"

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

// The masters of parameters that the program has changed start anew from them.
void adopt_written(const ModelTensors& tensors, const ZeroStage& stage, Optimizer& optimizer,
                   const std::vector<at::Tensor>& written) {
  std::unordered_set<std::string> names;
  for (std::size_t i = 0; i < tensors.trainable.size(); ++i) {
    const at::Tensor& parameter = tensors.trainable[i];
    if (std::any_of(written.begin(), written.end(),
                    [&](const at::Tensor& tensor) { return tensor.is_same(parameter); }))
      names.insert(tensors.trainable_names[i]);
  }
  for (const SegmentPiece& piece : stage.pieces()) {
    const Segment& segment = stage.layout()[piece.segment];
    if (names.count(piece.parameter) == 0 || !segment.has_master_apart()) continue;
    optimizer.write(
        {.quantity = "master", .segment = piece.segment, .begin = piece.segment_offset, .numel = piece.numel},
        segment.parameter.part(piece.segment_offset, piece.numel).read());
  }
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

struct Engine::Parts {
  Parts(std::shared_ptr<torch::nn::Module> module, const Config& config, InitializeOptions options);

  CheckpointSubject checkpoint_subject() {
    return {tensors, *stage, *optimizer, loss_scaler, progress, collectives};
  }
  double global_norm();
  void finish_save();
  void begin(Phase phase);
  void end(Phase phase);
  void record_step();
  bool needs_norm() const { return config.gradient_clipping > 0.0 || config.check_gradient_overflow; }
  double gradient_divisor() const;
  std::array<double, 2> betas(std::int64_t update) const;
  StepResult update();
  // What is final: what operators could not throw, and a step that failed, maybe for that.
  void rethrow_failure() {
    stage->rethrow_failure();
    if (failure) std::rethrow_exception(failure);
  }
  [[noreturn]] void fail(const char* call);
  void report(const std::exception& error) {
    if (link) link->report_failure(error);
  }
  void log_progress();
  void log_skipped_step(double attempted_scale);

  std::shared_ptr<torch::nn::Module> module;
  ModelTensors tensors;
  Config config;
  Logger logger;
  std::shared_ptr<RankLink> link;
  std::shared_ptr<CommsRecord> comms_record;  // with comms_logger
  TensorCollectives collectives;
  torch::Device device = torch::kCPU;
  torch::Dtype dtype = torch::kFloat;
  std::unique_ptr<ZeroStage> stage;
  OptimizerConfig optimizer_config;
  std::unique_ptr<Optimizer> optimizer;
  LearningRateSchedule schedule;
  LossScaler loss_scaler;

  TrainingProgress progress;
  bool has_gradients = false;  // backward() ran in this micro step
  std::exception_ptr failure;  // of a step, which may have updated a part
  std::optional<double> norm;
  StepRecorder recorder;
  std::unique_ptr<FlopsProfiler> flops_profiler;  // null: none
  torch::Tensor losses;          // summed over the micro batches of this step, where a monitor wants them
  bool save_is_pending = false;  // the same on all ranks
  CheckpointSaver saver;         // last: its end waits for the write
};

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
    saver.wait_for_copy();  // a save in the background still reads what changes now
    stage->begin_update();
    const std::int64_t update = progress.global_steps - progress.skipped_steps;
    optimizer->step(stage->segments(), {.learning_rate = schedule.learning_rate(update),
                                        .betas = betas(update),
                                        .gradient_divisor = gradient_divisor()});
    stage->publish_parameters();
  }
  if (config.dtype == DType::kFloat16) loss_scaler.update(overflow);
  stage->clear_gradients();
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
    if (collectives.size() > 1)
      collectives.communicator().abort(fmt::format("{} failed: {}", call, first_line(error.what())));
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

Engine::Engine(std::shared_ptr<torch::nn::Module> module, torch::nn::AnyModule callable, const Config& config,
               InitializeOptions options)
    : callable_(std::move(callable)),
      parts_(std::make_unique<Parts>(std::move(module), config, std::move(options))) {}

Engine::~Engine() {
  if (!parts_->comms_record) return;
  const std::string table = communication_summary();
  if (!table.empty()) parts_->logger.info("communication of rank 0:\n{}", table);
}

torch::Tensor Engine::place(torch::Tensor input) const {
  if (!input.defined()) return input;
  return input.to(parts_->device, input.is_floating_point() ? parts_->dtype : input.scalar_type());
}

void Engine::begin_forward() const {
  rethrow_failure();
  parts_->begin(Phase::kForward);
}

void Engine::end_forward() const {
  parts_->end(Phase::kForward);
  rethrow_failure();
}

void Engine::rethrow_failure() const try { parts_->rethrow_failure(); } catch (const std::exception& error) {
  parts_->report(error);
  throw;
}

void Engine::pin(const std::vector<torch::Tensor>& parameters) {
  for (const torch::Tensor& parameter : parameters) {
    if (const ShardHome* home = shard_home_of(parameter)) home->owner->pin(home->unit);
  }
  parts_->stage->begin_update();  // the program may change them now
  parts_->rethrow_failure();
}

void Engine::unpin(const std::vector<torch::Tensor>& parameters, std::optional<int> modifier_rank) {
  const torch::NoGradGuard no_grad;
  parts_->saver.wait_for_copy();
  try {
    for (const torch::Tensor& parameter : parameters) {
      if (modifier_rank) parts_->collectives.broadcast(parameter.detach(), *modifier_rank).wait();
      if (const ShardHome* home = shard_home_of(parameter))
        home->owner->unpin(home->unit, modifier_rank.has_value());
    }
    if (modifier_rank) adopt_written(parts_->tensors, *parts_->stage, *parts_->optimizer, parameters);
    parts_->rethrow_failure();
  } catch (const std::exception&) {
    parts_->failure = std::current_exception();
    parts_->fail("GatheredParameters");
  }
}

GatheredParameters::GatheredParameters(Engine& engine, std::vector<torch::Tensor> parameters,
                                       std::optional<int> modifier_rank)
    : engine_(engine), parameters_(std::move(parameters)), modifier_rank_(modifier_rank) {
  if (modifier_rank && (*modifier_rank < 0 || *modifier_rank >= engine.world_size())) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("GatheredParameters: there is no rank {} among {}",
                                                         *modifier_rank, engine.world_size()));
  }
  engine_.pin(parameters_);
}

GatheredParameters::~GatheredParameters() {
  try {
    finish();
  } catch (const std::exception&) {  // the next collective says it again
  }
}

void GatheredParameters::finish() {
  const std::vector<torch::Tensor> pinned = std::exchange(parameters_, {});
  if (!pinned.empty()) engine_.unpin(pinned, modifier_rank_);
}

void Engine::backward(const torch::Tensor& loss) {
  if (!loss.defined() || loss.numel() != 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "Engine::backward needs a loss of one element; take its mean or sum first");
  }
  if (!loss.requires_grad()) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "Engine::backward: the loss does not depend on a trainable parameter; all of them are frozen, "
        "or it was detached or computed under torch::NoGradGuard");
  }
  if (parts_->has_gradients) {
    throw Error(ErrorCode::kInvalidArgument,
                "Engine::backward was called twice in one micro step; call Engine::step after each backward, "
                "or add the losses");
  }
  rethrow_failure();
  // In fp32, since a 16-bit loss times the loss scale would overflow.
  const double factor =
      parts_->loss_scaler.scale() / static_cast<double>(parts_->config.gradient_accumulation_steps);
  parts_->begin(Phase::kBackward);
  if (parts_->recorder.wants_loss()) {
    const torch::Tensor value = loss.detach().to(torch::kFloat).reshape({});
    parts_->losses = parts_->losses.defined() ? parts_->losses + value : value;
  }
  const torch::Tensor scaled = factor == 1.0 ? loss : loss.to(torch::kFloat) * factor;
  try {
    parts_->stage->begin_backward(is_gradient_accumulation_boundary());
    scaled.backward();
    parts_->stage->rethrow_failure();
    parts_->stage->end_backward();
  } catch (const std::exception&) {
    parts_->fail("Engine::backward");
  }
  parts_->has_gradients = true;
  parts_->end(Phase::kBackward);
}

StepResult Engine::step() {
  if (!parts_->has_gradients) {
    throw Error(ErrorCode::kInvalidArgument, "Engine::step was called without a backward before it");
  }
  const bool boundary = is_gradient_accumulation_boundary();
  parts_->has_gradients = false;
  ++parts_->progress.micro_steps;
  parts_->progress.samples += parts_->config.micro_batch_size * world_size();
  if (!boundary) return StepResult::kAccumulating;
  try {
    const StepResult result = parts_->update();
    if (parts_->link) parts_->link->heartbeat(global_steps());
    return result;
  } catch (const std::exception&) {
    parts_->failure = std::current_exception();
    parts_->fail("Engine::step");
  }
}

bool Engine::stop_requested() {
  if (!parts_->link) return false;
  const bool was_told = parts_->link->stop_requested();
  if (world_size() == 1) return was_told;
  at::Tensor told = at::full({1}, was_told ? 1.0 : 0.0, at::TensorOptions(at::kFloat));
  parts_->collectives.all_reduce(told, ReduceOp::kSum).wait();
  return told.item<float>() > 0;
}

void Engine::save_checkpoint(const std::string& directory, const SaveOptions& options) {
  const std::int64_t micro_steps = parts_->progress.micro_steps;
  if (parts_->has_gradients || micro_steps % parts_->config.gradient_accumulation_steps != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "Engine::save_checkpoint was called within an optimizer step, whose gradients would be lost; "
                "save after the step() that ends it");
  }
  rethrow_failure();
  parts_->finish_save();
  const CheckpointName name{directory,
                            options.tag.empty() ? fmt::format("global_step{}", global_steps()) : options.tag};
  parts_->save_is_pending = true;
  start_checkpoint(parts_->checkpoint_subject(), name,
                   {.client_state = options.client_state,
                    .keep_last = options.keep_last,
                    .in_background = options.in_background},
                   parts_->saver);
  if (!options.in_background) parts_->finish_save();
  parts_->logger.info("checkpoint {} {} in {}", name.tag, options.in_background ? "is being saved" : "saved",
                      directory);
}

void Engine::wait_for_checkpoint() {
  parts_->finish_save();
}

void Engine::save_16bit_model(const std::string& directory) {
  const ZeroConfig& zero = parts_->config.zero;
  if (zero.stage == 3 && world_size() > 1 && !zero.gather_16bit_weights_on_model_save) {
    throw Error(ErrorCode::kInvalidArgument,
                "Engine::save_16bit_model gathers the whole model at stage 3; allow it with "
                "zero_optimization.stage3_gather_16bit_weights_on_model_save, or save a checkpoint and use "
                "deepscale zero_to_fp32");
  }
  rethrow_failure();
  save_model(parts_->checkpoint_subject(), directory);
  parts_->logger.info("model saved in {}", directory);
}

LoadedCheckpoint Engine::load_checkpoint(const std::string& directory, const std::string& tag) {
  rethrow_failure();
  parts_->finish_save();
  CheckpointName name{directory, tag};
  std::string client_state = deepscale::load_checkpoint(parts_->checkpoint_subject(), name);
  parts_->has_gradients = false;
  parts_->stage->clear_gradients();
  parts_->logger.info("checkpoint {} loaded from {}: step {}", name.tag, directory, global_steps());
  return {name.tag, std::move(client_state), samples_seen()};
}

bool Engine::is_gradient_accumulation_boundary() const {
  return (parts_->progress.micro_steps + 1) % parts_->config.gradient_accumulation_steps == 0;
}

int Engine::rank() const {
  return parts_->collectives.rank();
}
int Engine::world_size() const {
  return parts_->collectives.size();
}
torch::Device Engine::device() const {
  return parts_->device;
}
torch::Dtype Engine::dtype() const {
  return parts_->dtype;
}
const Config& Engine::config() const {
  return parts_->config;
}
torch::nn::Module& Engine::module() {
  return *parts_->module;
}
Communicator& Engine::communicator() {
  return parts_->collectives.communicator();
}
std::int64_t Engine::global_steps() const {
  return parts_->progress.global_steps;
}
std::int64_t Engine::skipped_steps() const {
  return parts_->progress.skipped_steps;
}
std::int64_t Engine::samples_seen() const {
  return parts_->progress.samples;
}
double Engine::learning_rate() const {
  return parts_->schedule.learning_rate(parts_->progress.global_steps - parts_->progress.skipped_steps);
}
double Engine::loss_scale() const {
  return parts_->loss_scaler.scale();
}
std::optional<double> Engine::global_gradient_norm() const {
  return parts_->norm;
}

std::string Engine::communication_summary() const {
  return parts_->comms_record ? parts_->comms_record->table(world_size()) : "";
}

std::string Engine::flops_summary() const {
  return parts_->flops_profiler ? parts_->flops_profiler->report() : "";
}

MemoryReport Engine::memory() const {
  MemoryReport report;
  report.parameters = parts_->stage->parameter_bytes();
  report.gradients = parts_->stage->gradient_bytes();
  report.optimizer_state = parts_->optimizer->state_bytes();
  return report;
}

}  // namespace deepscale
