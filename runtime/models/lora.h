// Low-rank adapters: training a few percent of a model's parameters beside its frozen weights.
//
//   add_lora(*model, {.rank = 128, .alpha = 128.0}, {"self_attn", "fc"});
//   only_optimize_lora(*model);
//   auto engine = initialize(model, "ds_config.json");
//   ...
//   save_lora(*model, "output/adapter");      // PEFT's format
//   save_pretrained(*model, "output/model");  // or the whole model, adapters put into its weights
//
// Adapters are part of the Linear layers (layers.h), with PEFT's names; an Engine of any stage trains them as
// any parameters, and leaves frozen ones alone. Made before the Engine, on all ranks from the same random
// state. One thread. Saving is collective at stage 3. Failures name file and layer: kNotFound,
// kInvalidArgument for adapters of another model, kUnsupported for PEFT options that would change the result.
#pragma once

#include <torch/nn/module.h>

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/models/layers.h"

namespace deepscale {

// An adapter for every Linear layer whose name has one of `filters` in it; without filters for every layer of
// the model's blocks, the head left out. Returns how many; Error(kInvalidArgument) where there is none.
int add_lora(torch::nn::Module& model, const LoraOptions& options,
             const std::vector<std::string>& filters = {});

// Freezes everything but the adapters.
void only_optimize_lora(torch::nn::Module& model);

// Quantises the weight of every Linear layer that add_lora() without filters chooses; returns how many.
// Before or after add_lora, and before the Engine. They stay as they are at every stage: ranks do not share
// them out.
int quantize_base(torch::nn::Module& model, const QuantizeOptions& options);

// Puts all adapters into the weights, for speed, or takes them out again. Not while an Engine of stage 3 has
// the model: a frozen weight that is shared out takes no writing.
void fuse_lora(torch::nn::Module& model);
void unfuse_lora(torch::nn::Module& model);

struct LoraSaveOptions {
  bool writes = true;      // as in PretrainedSaveOptions
  std::string base_model;  // "base_model_name_or_path"
  std::string task = "CAUSAL_LM";
};
// adapter_config.json and adapter_model.safetensors.
void save_lora(torch::nn::Module& model, const std::filesystem::path& directory,
               const LoraSaveOptions& options = {});

// Adds the adapters of such a folder, also one that PEFT wrote, to a model that has none.
void load_lora(torch::nn::Module& model, const std::filesystem::path& directory);

// Whether the parameter of this name is an adapter's.
bool is_of_adapter(const std::string& parameter_name);

}  // namespace deepscale
