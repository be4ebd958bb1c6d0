#include "runtime/models/lora.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "comm/base/error.h"
#include "runtime/checkpoint/durable_file.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/models/weight_tensors.h"
#include "runtime/pretrained/config_fields.h"
#include "runtime/pretrained/text_file.h"

namespace deepscale {
namespace {

constexpr const char* kPrefix = "base_model.model.";
constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightFile = "adapter_model.safetensors";

std::vector<std::pair<std::string, Linear*>> linear_layers(torch::nn::Module& model) {
  std::vector<std::pair<std::string, Linear*>> layers;
  for (const auto& entry : model.named_modules()) {
    if (auto* linear = entry.value()->as<Linear>()) layers.emplace_back(entry.key(), linear);
  }
  return layers;
}

bool is_chosen(const std::string& name, const std::vector<std::string>& filters) {
  if (filters.empty())
    return name.find("layer") != std::string::npos || name.find(".h.") != std::string::npos;
  return std::any_of(filters.begin(), filters.end(),
                     [&](const std::string& filter) { return name.find(filter) != std::string::npos; });
}

std::vector<std::pair<std::string, at::Tensor>> adapter_tensors(const torch::nn::Module& model) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& entry : model.named_parameters()) {
    if (is_of_adapter(entry.key())) tensors.emplace_back(entry.key(), entry.value());
  }
  return tensors;
}

std::string config_text(const std::vector<std::pair<std::string, Linear*>>& adapted,
                        const LoraSaveOptions& options) {
  const LoraOptions& lora = adapted.front().second->lora_options();
  nlohmann::ordered_json json = {{"peft_type", "LORA"},
                                 {"task_type", options.task},
                                 {"base_model_name_or_path", options.base_model},
                                 {"r", lora.rank},
                                 {"lora_alpha", lora.alpha},
                                 {"lora_dropout", lora.dropout},
                                 {"bias", "none"},
                                 {"fan_in_fan_out", adapted.front().second->options().is_input_major},
                                 {"inference_mode", true}};
  for (const auto& [name, layer] : adapted) json["target_modules"].push_back(name);
  return json.dump(2) + "\n";
}

// PEFT's other kinds compute something else from the same tensors.
void refuse_other_kinds(const nlohmann::json& json, const ConfigFields& fields) {
  if (fields.text("peft_type", "LORA") != "LORA") fields.unsupported("peft_type", "only LORA is here");
  if (fields.text("bias", "none") != "none") {
    fields.unsupported("bias", "only adapters without biases are here");
  }
  for (const char* key : {"use_dora", "use_rslora", "use_qalora", "lora_bias"}) {
    if (fields.boolean(key, false)) fields.unsupported(key, "this kind of adapter is not here");
  }
  for (const char* key : {"rank_pattern", "alpha_pattern", "modules_to_save", "layer_replication",
                          "alora_invocation_tokens", "trainable_token_indices", "target_parameters"}) {
    if (!fields.is_empty(key)) fields.unsupported(key, "it is not here");
  }
  const auto start = json.find("init_lora_weights");
  if (start == json.end() || !start->is_string() || *start == "gaussian" || *start == "eva" ||
      *start == "orthogonal") {
    return;
  }
  fields.unsupported("init_lora_weights",
                     "such adapters belong to a base that was changed; have PEFT convert them when it saves");
}

// The names of the layers that the file has adapters for.
std::set<std::string> adapted_names(const SafetensorsReader& reader) {
  std::set<std::string> names;
  for (const auto& [name, entry] : reader.entries()) {
    const std::size_t end = name.find(".lora_");
    const bool is_known = name.rfind(kPrefix, 0) == 0 && end != std::string::npos && is_of_adapter(name);
    if (!is_known) {
      throw Error(ErrorCode::kUnsupported, fmt::format("{}: tensor '{}' is no adapter of a linear layer",
                                                       reader.path().string(), name));
    }
    names.insert(name.substr(std::string(kPrefix).size(), end - std::string(kPrefix).size()));
  }
  return names;
}

}  // namespace

bool is_of_adapter(const std::string& parameter_name) {
  const auto ends_with = [&](const std::string& end) {
    return parameter_name.size() >= end.size() &&
           parameter_name.compare(parameter_name.size() - end.size(), end.size(), end) == 0;
  };
  return ends_with(".lora_A.weight") || ends_with(".lora_B.weight");
}

int add_lora(torch::nn::Module& model, const LoraOptions& options, const std::vector<std::string>& filters) {
  int count = 0;
  std::string names;
  for (const auto& [name, layer] : linear_layers(model)) {
    if (names.size() < 400) names += (names.empty() ? "" : ", ") + name;
    if (!is_chosen(name, filters)) continue;
    layer->add_lora(options);
    ++count;
  }
  if (count > 0) return count;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("no linear layer has one of the given names in its own; there are {} ...", names));
}

void only_optimize_lora(torch::nn::Module& model) {
  for (auto& entry : model.named_parameters()) entry.value().set_requires_grad(is_of_adapter(entry.key()));
}

int quantize_base(torch::nn::Module& model, const QuantizeOptions& options) {
  int count = 0;
  for (const auto& [name, layer] : linear_layers(model)) {
    if (!is_chosen(name, {})) continue;
    layer->quantize(options);
    ++count;
  }
  return count;
}

void fuse_lora(torch::nn::Module& model) {
  for (const auto& [name, layer] : linear_layers(model)) layer->fuse_lora();
}

void unfuse_lora(torch::nn::Module& model) {
  for (const auto& [name, layer] : linear_layers(model)) layer->unfuse_lora();
}

void save_lora(torch::nn::Module& model, const std::filesystem::path& directory,
               const LoraSaveOptions& options) {
  std::vector<std::pair<std::string, Linear*>> adapted;
  for (const auto& named : linear_layers(model)) {
    if (named.second->has_lora()) adapted.push_back(named);
  }
  if (adapted.empty()) throw Error(ErrorCode::kInvalidArgument, "the model to save has no adapters");
  if (options.writes) {
    std::filesystem::create_directories(directory);
    replace_file(directory / kConfigFile, config_text(adapted, options));
  }
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : adapter_tensors(model)) {
    tensors.push_back({kPrefix + name, tensor, [tensor = tensor] { return tensor.detach().clone(); }});
  }
  write_weights(tensors, directory / kWeightFile, options.writes);
}

void load_lora(torch::nn::Module& model, const std::filesystem::path& directory) {
  const auto config_path = directory / kConfigFile;
  const nlohmann::json json = parse_json_object(
      read_text_file(config_path, "the folder of an adapter in PEFT's format has one"), config_path.string());
  const ConfigFields fields(json, config_path.string());
  refuse_other_kinds(json, fields);
  const LoraOptions options{.rank = fields.integer("r", 8, 1),
                            .alpha = fields.number("lora_alpha", 8.0),
                            .dropout = fields.number("lora_dropout", 0.0)};
  const SafetensorsReader reader(directory / kWeightFile);
  std::set<std::string> wanted = adapted_names(reader);
  for (const auto& [name, layer] : linear_layers(model)) {
    if (wanted.erase(name) > 0) layer->add_lora(options);
  }
  if (!wanted.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: the model has no linear layer '{}'", directory.string(), *wanted.begin()));
  }
  for (const auto& [name, tensor] : adapter_tensors(model)) {
    const auto stored = reader.entries().find(kPrefix + name);
    if (stored == reader.entries().end()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: it has no tensor '{}'", reader.path().string(), kPrefix + name));
    }
    set_values(tensor, WeightView::of(reader, stored->second), stored->first, tensor.scalar_type());
  }
}

}  // namespace deepscale
