#include "runtime/models/pretrained.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <map>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "comm/base/error.h"
#include "runtime/checkpoint/durable_file.h"
#include "runtime/pretrained/weight_files.h"

namespace deepscale {
namespace {

const std::map<std::string, at::ScalarType>& floating_types() {
  static const std::map<std::string, at::ScalarType> types = {
      {"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}};
  return types;
}

std::string stored_type(at::ScalarType dtype) {
  for (const auto& [name, type] : floating_types()) {
    if (type == dtype) return name;
  }
  throw Error(ErrorCode::kUnsupported, fmt::format("weights of type {} are not saved", c10::toString(dtype)));
}

// The file's memory as a tensor, which keeps the file mapped.
at::Tensor tensor_of(const WeightView& view, const std::string& name) {
  const auto type = floating_types().find(view.dtype);
  if (type == floating_types().end()) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{}: tensor '{}' is of type {}, and a weight is F32, F16, BF16 or F64; is the model "
                    "quantised?",
                    view.file->path().string(), name, view.dtype));
  }
  const auto options = at::TensorOptions(type->second);
  if (view.bytes == 0) return at::empty(view.shape, options);
  const at::Tensor tensor = torch::from_blob(
      view.data, view.shape, [file = view.file](void*) {}, options);
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(view.data) % tensor.element_size() == 0;
  if (is_aligned) return tensor;
  at::Tensor copy = at::empty(view.shape, options);
  std::memcpy(copy.data_ptr(), view.data, static_cast<std::size_t>(view.bytes));
  return copy;
}

std::string shape_text(at::IntArrayRef sizes) {
  std::string text;
  for (const std::int64_t size : sizes) text += fmt::format("{}{}", text.empty() ? "" : " x ", size);
  return text.empty() ? "one value" : text;
}

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

// Each tensor once, by its first name.
std::vector<std::pair<std::string, at::Tensor>> distinct_parameters(const torch::nn::Module& model) {
  std::vector<std::pair<std::string, at::Tensor>> result;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const auto& entry : model.named_parameters()) {
    if (!seen.insert(entry.value().unsafeGetTensorImpl()).second) continue;
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

void write_weights(const std::vector<std::pair<std::string, at::Tensor>>& parameters,
                   const std::filesystem::path& path, bool writes) {
  std::vector<StoredTensor> described;
  for (const auto& [name, parameter] : parameters) {
    described.push_back(
        {.name = name, .dtype = stored_type(parameter.scalar_type()), .shape = parameter.sizes().vec()});
  }
  std::filesystem::path unfinished = path;
  unfinished += ".incomplete";
  std::optional<SafetensorsWriter> writer;
  if (writes) writer.emplace(unfinished, described, std::map<std::string, std::string>{{"format", "pt"}});
  for (const auto& [name, parameter] : parameters) {
    const at::Tensor values = parameter.detach().clone(at::MemoryFormat::Contiguous).to(at::kCPU);
    if (writer) writer->append(values.const_data_ptr());
  }
  if (!writer) return;
  writer->finish();
  writer.reset();
  std::filesystem::rename(unfinished, path);
}

}  // namespace

void load_weights(torch::nn::Module& model, const std::filesystem::path& directory, const std::string& prefix,
                  const LoadOptions& options) {
  const WeightFiles files(directory);
  at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : distinct_parameters(model)) {
    const std::string stored_name = find_name(files, name, prefix);
    at::Tensor values = tensor_of(files.view(stored_name), stored_name);
    if (values.sizes() != parameter.sizes()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{}: tensor '{}' is {}, and config.json asks for {}", directory.string(),
                              stored_name, shape_text(values.sizes()), shape_text(parameter.sizes())));
    }
    if (options.dtype) values = values.to(*options.dtype);
    at::Tensor(parameter).set_data(values.to(parameter.device()));
  }
}

std::shared_ptr<LanguageModel> language_model_from_pretrained(const std::filesystem::path& directory,
                                                              const LoadOptions& options) {
  const auto model = make_language_model(read_model_config(directory));
  load_weights(*model, directory, body_prefix(model->config().architecture), options);
  return model;
}

void save_pretrained(torch::nn::Module& model, const ModelConfig& config,
                     const std::filesystem::path& directory, const SaveOptions& options) {
  at::NoGradGuard no_grad;
  const auto parameters = distinct_parameters(model);
  if (parameters.empty()) throw Error(ErrorCode::kInvalidArgument, "the model to save has no parameters");
  if (options.writes) {
    std::filesystem::create_directories(directory);
    replace_file(directory / "config.json",
                 config_text(config, parameters.front().second.scalar_type(), options.architecture));
  }
  write_weights(parameters, directory / "model.safetensors", options.writes);
}

void save_pretrained(LanguageModel& model, const std::filesystem::path& directory,
                     const SaveOptions& options) {
  save_pretrained(model, model.config(), directory, options);
}

}  // namespace deepscale
