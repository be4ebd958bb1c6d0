#include "runtime/engine/engine.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include "comm/base/error.h"
#include "runtime/engine/engine_parts.h"

namespace deepscale {

Engine::Engine(std::shared_ptr<torch::nn::Module> module, torch::nn::AnyModule callable, const Config& config,
               InitializeOptions options)
    : callable_(std::move(callable)),
      parts_(std::make_unique<Parts>(std::move(module), config, std::move(options))) {}

Engine::~Engine() {
  try {
    parts_->saver.wait();
  } catch (const std::exception& error) {
    parts_->logger.error("the checkpoint that was being saved when the Engine ended is not there: {}",
                         error.what());
  }
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

void Engine::rethrow_failure() const {
  try {
    parts_->rethrow_failure();
  } catch (const std::exception& error) {
    parts_->report(error);
    throw;
  }
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
  // A checkpoint lies between two steps, however many micro batches made one then.
  parts_->progress.micro_steps = global_steps() * parts_->config.gradient_accumulation_steps;
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
