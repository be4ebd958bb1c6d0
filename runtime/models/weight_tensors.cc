#include "runtime/models/weight_tensors.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <cstring>
#include <map>

#include "comm/base/error.h"
#include "runtime/checkpoint/safetensors.h"

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

std::string shape_text(at::IntArrayRef sizes) {
  std::string text;
  for (const std::int64_t size : sizes) text += fmt::format("{}{}", text.empty() ? "" : " x ", size);
  return text.empty() ? "one value" : text;
}

}  // namespace

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

void set_values(at::Tensor parameter, const WeightView& view, const std::string& name,
                std::optional<at::ScalarType> dtype) {
  at::Tensor values = tensor_of(view, name);
  if (values.sizes() != parameter.sizes()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: tensor '{}' is {}, and the model of the configuration has {}",
                            view.file->path().string(), name, shape_text(values.sizes()),
                            shape_text(parameter.sizes())));
  }
  if (dtype) values = values.to(*dtype);
  parameter.set_data(values.to(parameter.device()));
}

void write_weights(const std::vector<NamedTensor>& tensors, const std::filesystem::path& path, bool writes) {
  std::vector<StoredTensor> described;
  for (const NamedTensor& tensor : tensors) {
    described.push_back({.name = tensor.name,
                         .dtype = stored_type(tensor.like.scalar_type()),
                         .shape = tensor.like.sizes().vec()});
  }
  std::filesystem::path unfinished = path;
  unfinished += ".incomplete";
  std::optional<SafetensorsWriter> writer;
  if (writes) writer.emplace(unfinished, described, std::map<std::string, std::string>{{"format", "pt"}});
  for (const NamedTensor& tensor : tensors) {
    const at::Tensor values = tensor.values().to(at::kCPU).contiguous();
    if (writer) writer->append(values.const_data_ptr());
  }
  if (!writer) return;
  writer->finish();
  writer.reset();
  std::filesystem::rename(unfinished, path);
}

}  // namespace deepscale
