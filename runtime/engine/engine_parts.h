// What an Engine is made of, and what it does with it at the end of a step. Internal to runtime/engine.
#pragma once

#include <array>
#include <exception>
#include <memory>
#include <optional>

#include "agents/link/rank_link.h"
#include "runtime/checkpoint/checkpoint_saver.h"
#include "runtime/engine/checkpoint.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/flops_profiler.h"
#include "runtime/engine/model_tensors.h"
#include "runtime/engine/optimizer.h"
#include "runtime/engine/step_memory.h"
#include "runtime/engine/tensor_collectives.h"
#include "runtime/engine/zero_stage.h"
#include "runtime/monitor/comms_logger.h"
#include "runtime/monitor/step_recorder.h"
#include "runtime/schedule/learning_rate.h"
#include "runtime/schedule/loss_scaler.h"

namespace deepscale {

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
  std::optional<StepMemory> step_memory;  // on the CPU
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

}  // namespace deepscale
