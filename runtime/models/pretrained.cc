#include "runtime/models/pretrained.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <map>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "comm/base/error.h"
#include "runtime/checkpoint/durable_file.h"
#include "runtime/models/layers.h"
#include "runtime/models/lora.h"
#include "runtime/models/weight_tensors.h"
#include "runtime/pretrained/weight_files.h"

namespace deepscale {
namespace {

// The name under which the files have a parameter: its own, or that of a file which holds the body alone.
std::string find_name(const WeightFiles& files, const std::string& name, const std::string& prefix) {
  if (files.has(name)) return name;
  const std::string start = prefix + ".";
  const bool is_of_body = name.compare(0, start.size(), start) == 0;
  const std::string other = is_of_body ? name.substr(start.size()) : start + name;
  if (files.has(other)) return other;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("{}: its weights have no '{}', which the model of its config.json has; the first of "
                  "its {} tensors is '{}'",
                  files.directory().string(), name, files.names().size(),
                  files.names().empty() ? "" : files.names().front()));
}

const char* body_prefix(Architecture architecture) {
  switch (architecture) {
    case Architecture::kGpt2:
      return "transformer";
    case Architecture::kBert:
      return "bert";
    default:
      return "model";
  }
}

const char* usual_head(const ModelConfig& config) {
  switch (config.architecture) {
    case Architecture::kPhi3:
      return "Phi3ForCausalLM";
    case Architecture::kOpt:
      return "OPTForCausalLM";
    case Architecture::kGpt2:
      return "GPT2LMHeadModel";
    case Architecture::kBert:
      return "BertForMaskedLM";
    case Architecture::kLlama:
      break;
  }
  return config.model_type == "mistral" ? "MistralForCausalLM" : "LlamaForCausalLM";
}

const char* hugging_face_type(at::ScalarType dtype) {
  switch (dtype) {
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kDouble:
      return "float64";
    default:
      return "float32";
  }
}

// The layers whose weight is not just their parameter: they have an adapter, or are quantised.
std::map<std::string, const Linear*> combined_layers(torch::nn::Module& model) {
  std::map<std::string, const Linear*> layers;
  for (const auto& entry : model.named_modules()) {
    const auto* linear = entry.value()->as<Linear>();
    if (linear != nullptr && (linear->has_lora() || linear->quantized() != nullptr))
      layers[entry.key() + ".weight"] = linear;
  }
  return layers;
}

// Each tensor once, by its first name; those of adapters are no part of the model's own files.
std::vector<std::pair<std::string, at::Tensor>> distinct_parameters(const torch::nn::Module& model) {
  std::vector<std::pair<std::string, at::Tensor>> result;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const auto& entry : model.named_parameters()) {
    if (is_of_adapter(entry.key()) || !seen.insert(entry.value().unsafeGetTensorImpl()).second) continue;
    result.emplace_back(entry.key(), entry.value());
  }
  return result;
}

std::string config_text(const ModelConfig& config, at::ScalarType dtype, const std::string& architecture) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(config.source);
  json.erase("torch_dtype");
  json["dtype"] = hugging_face_type(dtype);
  if (!architecture.empty()) {
    json["architectures"] = {architecture};
  } else if (config.heads_in_file.empty()) {
    json["architectures"] = {usual_head(config)};
  }
  return json.dump(2) + "\n";
}

}  // namespace

void load_weights(torch::nn::Module& model, const std::filesystem::path& directory, const std::string& prefix,
                  const LoadOptions& options) {
  const WeightFiles files(directory);
  at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : distinct_parameters(model)) {
    const std::string stored_name = find_name(files, name, prefix);
    set_values(parameter, files.view(stored_name), stored_name, options.dtype);
  }
}

std::shared_ptr<LanguageModel> language_model_from_pretrained(const std::filesystem::path& directory,
                                                              const ModelConfig& config,
                                                              const LoadOptions& options) {
  const auto model = make_language_model(config);
  load_weights(*model, directory, body_prefix(config.architecture), options);
  return model;
}

std::shared_ptr<LanguageModel> language_model_from_pretrained(const std::filesystem::path& directory,
                                                              const LoadOptions& options) {
  return language_model_from_pretrained(directory, read_model_config(directory), options);
}

void save_pretrained(torch::nn::Module& model, const ModelConfig& config,
                     const std::filesystem::path& directory, const PretrainedSaveOptions& options) {
  at::NoGradGuard no_grad;
  const auto parameters = distinct_parameters(model);
  if (parameters.empty()) throw Error(ErrorCode::kInvalidArgument, "the model to save has no parameters");
  if (options.writes) {
    std::filesystem::create_directories(directory);
    replace_file(directory / "config.json",
                 config_text(config, parameters.front().second.scalar_type(), options.architecture));
  }
  const std::map<std::string, const Linear*> combined = combined_layers(model);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, parameter] : parameters) {
    const auto layer = combined.find(name);
    if (layer == combined.end()) {
      tensors.push_back({name, parameter, [parameter = parameter] { return parameter.detach().clone(); }});
    } else {
      const Linear* const linear = layer->second;
      tensors.push_back({name, linear->like_weight(), [linear] { return linear->fused_weight(); }});
    }
  }
  write_weights(tensors, directory / "model.safetensors", options.writes);
}

void save_pretrained(LanguageModel& model, const std::filesystem::path& directory,
                     const PretrainedSaveOptions& options) {
  save_pretrained(model, model.config(), directory, options);
}

}  // namespace deepscale
