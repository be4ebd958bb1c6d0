// Models from and to folders in Hugging Face's format: config.json and safetensors.
//
//   auto model = language_model_from_pretrained("models/smollm2-135m");
//   auto engine = initialize(model, "ds_config.json");
//
// Loading copies nothing where the file's type is the one that is asked for: a parameter's memory is the
// mapped file, whose pages all ranks of a machine share, and which becomes this process's own only where it
// is written. An Engine takes one parameter after the other and lets go of the mapping; so at stage 3 no rank
// ever holds a whole copy. A conversion makes one copy per parameter.
//
// Blocking; one thread. Failures name file and tensor: those of read_model_config() and WeightFiles, and
// kInvalidArgument where tensors lack or have another shape than config.json says (another model's file).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "runtime/models/language_model.h"

namespace deepscale {

struct LoadOptions {
  std::optional<at::ScalarType> dtype;  // of floating-point parameters; empty: as the file has them
};

std::shared_ptr<LanguageModel> language_model_from_pretrained(const std::filesystem::path& directory,
                                                              const LoadOptions& options = {});

// With a configuration that the program read and changed, for example its dropout.
std::shared_ptr<LanguageModel> language_model_from_pretrained(const std::filesystem::path& directory,
                                                              const ModelConfig& config,
                                                              const LoadOptions& options = {});

// For a model that was made before. `prefix` is what Hugging Face calls the body of the model ("model",
// "transformer", "bert"): files of the body alone have names without it.
void load_weights(torch::nn::Module& model, const std::filesystem::path& directory, const std::string& prefix,
                  const LoadOptions& options = {});

struct PretrainedSaveOptions {
  bool writes = true;  // false: takes part, since all ranks read a sharded parameter, but writes nothing
  std::string architecture;  // "architectures" of config.json; empty: as it was, or the usual one
};

// Writes config.json and model.safetensors, the latter tensor by tensor, and creates the folder. Each file is
// complete or not there. Adapters (lora.h) are saved as part of the weights that they adapt; the model keeps
// them apart. Collective at stage 3.
void save_pretrained(torch::nn::Module& model, const ModelConfig& config,
                     const std::filesystem::path& directory, const PretrainedSaveOptions& options = {});
void save_pretrained(LanguageModel& model, const std::filesystem::path& directory,
                     const PretrainedSaveOptions& options = {});

}  // namespace deepscale
