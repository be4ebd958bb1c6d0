// Engine: trains an unmodified torch::nn module with ZeRO over the ranks of a job.
//
//   auto engine = deepscale::initialize(model, "ds_config.json");
//   for (auto& batch : *loader) {
//     auto loss = torch::nn::functional::cross_entropy(engine->forward(batch.data),
//     batch.target.to(engine->device())); engine->backward(loss); engine->step();
//   }
//
// What it does to the module: parameters and buffers move to engine->device(), floating-point ones become
// engine->dtype(), and all ranks get rank 0's values. With more than one rank, trainable parameters become
// views of flat arenas and carry a post-accumulate hook that takes their gradient, so Tensor::grad() is empty
// after backward(). With one rank there are no hooks, arenas or copies: it is plain LibTorch.
//
// At stage 3 a parameter has memory only while an operator uses it: reading one outside the model
// (parameter.sum()) gathers it, on all ranks together; data_ptr() throws. The model has no values after its
// Engine has ended.
//
// The same result at every stage and world size, up to rounding: gradients are averaged over ranks and micro
// batches. A trainable parameter that got no gradient is stepped with a zero gradient (as DeepSpeed does);
// freeze what must not move.
//
// Threads: one thread calls an Engine. Collective: construction, backward() at an accumulation boundary
// (stage 2: always), step() at a boundary; all ranks must call them alike. They block until the
// communicator's timeout at most. Failures: Error; a failed collective (kPeerLost, kTimeout, kAborted) is
// final for the Engine, and so is a file of offloaded state that cannot be read or written (kSystem, naming
// it): every later call throws it again, and the other ranks' Engines end through the communicator. What
// autograd throws comes out of backward() as it is; with more than one rank it is final too, and ends the
// other ranks' Engines. The module outlives nothing: the Engine shares it.
//
// Follows "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (Rajbhandari et al., 2020).
#pragma once

#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/container/sequential.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "comm/base/environment.h"
#include "comm/base/log.h"
#include "comm/communicator.h"
#include "runtime/config/config.h"

namespace deepscale {

class RankLink;

// Bytes that this rank holds for the model now.
struct MemoryReport {
  std::int64_t parameters = 0;  // in dtype(), as the model reads them; stage 3: shards and what is gathered
  std::int64_t gradients = 0;   // stage 2, and 1 without accumulation: between backward() and step() only
  // Moments, and fp32 master weights where they are not the parameters; of what is in files, the buffers.
  std::int64_t optimizer_state = 0;
};

enum class StepResult {
  kAccumulating,  // not at a gradient accumulation boundary; nothing was updated
  kUpdated,
  kSkipped,  // a gradient overflowed on some rank; no rank updated, the loss scale may have changed
};

struct LoadedCheckpoint {
  std::string tag;
  std::string client_state;  // what the program gave to save_checkpoint()
  std::int64_t samples = 0;  // Engine::samples_seen() when it was saved: where the data go on
};

struct SaveOptions {
  std::string tag;           // empty: "global_step<N>"
  std::string client_state;  // the program's own text
  bool in_background = false;
  int keep_last = 0;  // checkpoints in the directory, older ones are removed; 0: all
};

struct InitializeOptions {
  WorldLayout layout;                          // who this rank is
  std::shared_ptr<Communicator> communicator;  // of all ranks; null is allowed for a world of one
  std::optional<OptimizerConfig> optimizer;    // used when the config names none
  std::optional<torch::Device>
      device;  // empty: the local rank's CUDA device where there is one, else the CPU
  Logger logger = Logger("deepscale", LogLevel::kInfo);  // rank 0 writes to it
  // To the agent of this node, on all ranks or on none: step() sends it heartbeats, and an error that leaves
  // the Engine is reported to it. Null: there is no agent.
  std::shared_ptr<RankLink> link;
};

class Engine {
 public:
  Engine(std::shared_ptr<torch::nn::Module> module, torch::nn::AnyModule callable, const Config& config,
         InitializeOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // The module's own forward(), after moving tensor arguments to device() and floating-point ones to dtype().
  template <typename Return = torch::Tensor, typename... Inputs>
  Return forward(Inputs&&... inputs) {
    begin_forward();
    Return result = [&]() -> Return {
      try {
        return callable_.forward<Return>(place(std::forward<Inputs>(inputs))...);
      } catch (...) {
        rethrow_failure();  // of which this may be a consequence
        throw;
      }
    }();
    end_forward();
    return result;
  }

  // Runs autograd from the scalar `loss` of this rank's micro batch, and starts the reduction of gradients
  // while autograd goes on. The loss is divided by gradient_accumulation_steps and multiplied by the loss
  // scale here, not by the caller.
  void backward(const torch::Tensor& loss);

  // Ends the micro step. At a boundary: overflow vote, clipping by global norm, optimizer, parameters to all
  // ranks, next learning rate.
  StepResult step();

  // Saves what training needs to go on: masters, optimizer state, frozen parameters and buffers, loss scale,
  // counters, the CPU's random state, and the program's own text. Between optimizer steps only. Collective;
  // the layout of the folder, and what an error leaves behind, are in runtime/engine/checkpoint.h.
  // In the background it returns when the write has begun, which reads masters and optimizer state where they
  // are. step() and GatheredParameters copy what is not written by then, before they change them; the program
  // changes trainable parameters within GatheredParameters only. Of frozen parameters (also in files)
  // what this rank writes is copied before. What goes wrong is thrown by wait_for_checkpoint(), which the
  // next save, load_checkpoint() and nothing else call too; collective like them. The end of the Engine waits
  // for the write.
  void save_checkpoint(const std::string& directory, const SaveOptions& options = {});
  void wait_for_checkpoint();
  // The model alone, in its dtype(), as DIRECTORY/model.safetensors, which transformers loads (sharded above
  // 5 GB). Collective; rank 0 writes. At stage 3 only with stage3_gather_16bit_weights_on_model_save, one
  // parameter at a time.
  void save_16bit_model(const std::string& directory);
  // Restores a checkpoint of the same model and optimizer, saved at any stage and world size; an empty tag:
  // the latest one. Error(kNotFound) where there is none, and see checkpoint.h.
  LoadedCheckpoint load_checkpoint(const std::string& directory, const std::string& tag = "");

  bool is_gradient_accumulation_boundary() const;

  // The launcher was asked to end the job, and there is time to save and leave. Collective where there is an
  // agent: true on all ranks as soon as one was told, so that all leave after the same step.
  bool stop_requested();

  int rank() const;
  int world_size() const;
  torch::Device device() const;
  torch::Dtype dtype() const;
  const Config& config() const;
  torch::nn::Module& module();
  Communicator& communicator();

  std::int64_t global_steps() const;  // boundaries passed, skipped ones included
  std::int64_t skipped_steps() const;
  std::int64_t samples_seen() const;  // micro batches of all ranks, in samples; restored from a checkpoint
  double learning_rate() const;       // of the next update
  double loss_scale() const;          // 1 unless fp16
  // L2 norm over all parameters and ranks before clipping, of the last boundary; empty before, and where
  // neither clipping nor an overflow check needs it.
  std::optional<double> global_gradient_norm() const;
  MemoryReport memory() const;
  // With comms_logger.enabled: what this rank's collectives took so far, as a table; else empty.
  std::string communication_summary() const;
  // With flops_profiler.enabled: rank 0's report, once the step was done; else empty.
  std::string flops_summary() const;

 private:
  friend class GatheredParameters;
  struct Parts;

  void pin(const std::vector<torch::Tensor>& parameters);
  void unpin(const std::vector<torch::Tensor>& parameters, std::optional<int> modifier_rank);
  torch::Tensor place(torch::Tensor input) const;
  void begin_forward() const;
  void end_forward() const;
  void rethrow_failure() const;
  template <typename T>
  std::enable_if_t<!std::is_convertible_v<T, torch::Tensor>, T&&> place(T&& input) const {
    return std::forward<T>(input);
  }

  torch::nn::AnyModule callable_;
  std::unique_ptr<Parts> parts_;
};

// While it lives, these parameters of an Engine's module are whole, at every stage: for data_ptr(), for
// reading them on one rank alone, and for changing them.
//
//   {
//     deepscale::GatheredParameters scope(*engine, {embedding->weight}, 0);
//     if (engine->rank() == 0) embedding->weight.detach().copy_(pretrained);
//   }  // all ranks have rank 0's values, and the optimizer goes on from them
//
// Without a modifier rank changes are lost. Begin and end are collective. The end of the object does what
// finish() does, which throws where something goes wrong (Error of a communicator). No backward() meanwhile.
class GatheredParameters {
 public:
  GatheredParameters(Engine& engine, std::vector<torch::Tensor> parameters,
                     std::optional<int> modifier_rank = std::nullopt);
  ~GatheredParameters();
  GatheredParameters(const GatheredParameters&) = delete;
  GatheredParameters& operator=(const GatheredParameters&) = delete;
  void finish();

 private:
  Engine& engine_;
  std::vector<torch::Tensor> parameters_;
  const std::optional<int> modifier_rank_;
};

// A torch::nn::Sequential has a templated forward(), which AnyModule does not take.
struct SequentialForward : torch::nn::Module {
  explicit SequentialForward(std::shared_ptr<torch::nn::SequentialImpl> layers) : layers(std::move(layers)) {}
  torch::Tensor forward(torch::Tensor input) { return layers->forward(std::move(input)); }
  std::shared_ptr<torch::nn::SequentialImpl> layers;
};

// With a Config and a communicator at hand. `Module` is a torch::nn::Module with a forward(), held by a
// shared_ptr or a ModuleHolder; a torch::nn::Sequential takes and returns one tensor.
template <typename Module>
std::unique_ptr<Engine> initialize(std::shared_ptr<Module> module, const Config& config,
                                   InitializeOptions options) {
  torch::nn::AnyModule callable;
  if constexpr (std::is_same_v<Module, torch::nn::SequentialImpl>) {
    callable = torch::nn::AnyModule(std::make_shared<SequentialForward>(module));
  } else {
    callable = torch::nn::AnyModule(module);
  }
  return std::make_unique<Engine>(std::move(module), std::move(callable), config, std::move(options));
}

// For a program that makes its own Config: reads the environment and joins the job (no launcher: a world of
// one).
InitializeOptions join_job();

// What the one-line form does.
struct JobConfig {
  Config config;
  InitializeOptions options;
};
JobConfig join_job(const std::string& config_path_or_base64, ConfigContext context = {});

// The usual form: `config` is the path of a ds_config.json, or its base64 text.
template <typename Module>
std::unique_ptr<Engine> initialize(std::shared_ptr<Module> module, const std::string& config,
                                   ConfigContext context = {}) {
  JobConfig job = join_job(config, std::move(context));
  return initialize(std::move(module), job.config, std::move(job.options));
}

template <typename Contained, typename... Arguments>
std::unique_ptr<Engine> initialize(const torch::nn::ModuleHolder<Contained>& holder,
                                   Arguments&&... arguments) {
  return initialize(holder.ptr(), std::forward<Arguments>(arguments)...);
}

}  // namespace deepscale
