// What a folder of a Hugging Face model says about its size, without reading a weight.
//
// The names and shapes of model.safetensors, or of the files that model.safetensors.index.json lists; where
// there are no weights, config.json of a bert, gpt2, llama, mistral, opt or qwen2 model, whose layers follow
// from it. Tied weights count once, as they are stored.
//
// Blocking: reads a few kilobytes of each file. Errors name the file: kNotFound, kSystem, kProtocol for one
// that is damaged, kUnsupported for a config.json of another kind of model.
// Format: https://huggingface.co/docs/safetensors, https://huggingface.co/docs/transformers (model.config).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace deepscale {

struct ModelLayer {
  std::string name;  // of the module; empty: the parameters of the model itself
  std::int64_t numel = 0;
};

struct ModelSize {
  std::vector<ModelLayer> layers;  // modules that have parameters themselves
  std::filesystem::path source;    // the file that told

  std::int64_t numel() const;
  ModelLayer largest() const;
};

ModelSize measure_model_folder(const std::filesystem::path& folder);

// The files of weights in the folder; empty: there are none.
std::vector<std::filesystem::path> weight_files(const std::filesystem::path& folder);

// The layers of a model that has this config.json; `source` names it in errors.
std::vector<ModelLayer> layers_of_config(const std::string& config, const std::filesystem::path& source);

}  // namespace deepscale
