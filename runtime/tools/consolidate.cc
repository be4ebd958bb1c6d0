#include "runtime/tools/consolidate.h"

#include <fmt/core.h>

#include <cstring>
#include <functional>

#include "comm/base/error.h"
#include "comm/base/half.h"
#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/checkpoint/model_writer.h"
#include "runtime/checkpoint/saved_pieces.h"
#include "runtime/tools/options.h"

namespace deepscale {
namespace {

std::int64_t numel_of(const std::vector<std::int64_t>& shape) {
  std::int64_t numel = 1;
  for (const std::int64_t size : shape) numel *= size;
  return numel;
}

bool is_16_bit(const std::string& dtype) {
  return dtype == "BF16" || dtype == "F16";
}

// A tensor of the model, and how its bytes come out of the checkpoint.
struct SavedTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::function<void(void* destination)> read;

  DeclaredTensor declared() const { return {name, is_16_bit(dtype) ? "F32" : dtype, shape}; }
};

std::vector<SavedTensor> saved_tensors(SavedPieces& saved, const CheckpointIndex& index,
                                       bool with_frozen_parameters) {
  std::vector<SavedTensor> tensors;
  const auto add_parameters = [&](const auto& parameters, const std::string& quantity) {
    for (const auto& [name, shape] : parameters) {
      const std::string dtype = saved.dtype_of(name, quantity);
      const ElementRange range = {name, quantity, 0, numel_of(shape)};
      tensors.push_back({name, dtype, shape, [&saved, range, dtype](void* destination) {
                           saved.read(range, dtype, destination);
                         }});
    }
  };
  add_parameters(index.parameters, "master");
  if (with_frozen_parameters) add_parameters(index.frozen_parameters, "frozen");
  const std::string buffer = "buffer/";
  SafetensorsReader& file = saved.files().front();
  for (const auto& entry : file.entries()) {
    if (entry.first.rfind(buffer, 0) != 0) continue;
    tensors.push_back({entry.first.substr(buffer.size()), entry.second.dtype, entry.second.shape,
                       [&file, &entry](void* destination) { file.read(entry.first, destination); }});
  }
  return tensors;
}

std::vector<char> read_as_fp32(const SavedTensor& tensor) {
  std::vector<char> bytes(static_cast<std::size_t>(stored_bytes(tensor.dtype, tensor.shape)));
  tensor.read(bytes.data());
  if (!is_16_bit(tensor.dtype)) return bytes;
  std::vector<char> widened(bytes.size() * 2);
  for (std::size_t i = 0; i < bytes.size() / 2; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    const float value = tensor.dtype == "BF16" ? bf16_to_float(bits) : fp16_to_float(bits);
    std::memcpy(widened.data() + 4 * i, &value, 4);
  }
  return widened;
}

}  // namespace

Consolidated consolidate(const ConsolidateOptions& options) {
  Consolidated result;
  result.tag = options.tag.empty() ? latest_tag(options.checkpoint) : options.tag;
  const std::filesystem::path folder = options.checkpoint / result.tag;
  const CheckpointIndex index = read_checkpoint_index(folder);
  SavedPieces saved(folder, index.files);
  const std::vector<SavedTensor> tensors = saved_tensors(saved, index, options.with_frozen_parameters);
  std::vector<DeclaredTensor> declared;
  for (const SavedTensor& tensor : tensors) declared.push_back(tensor.declared());
  ModelWriter writer(options.output, declared, options.max_shard_bytes);
  for (const SavedTensor& tensor : tensors) {
    const std::vector<char> bytes = read_as_fp32(tensor);
    writer.write(bytes.data(), static_cast<std::int64_t>(bytes.size()));
    result.bytes += static_cast<std::int64_t>(bytes.size());
  }
  result.tensors = static_cast<std::int64_t>(declared.size());
  result.files = writer.finish();
  return result;
}

std::string consolidate_text(const std::vector<std::string>& arguments) {
  // DeepSpeed's script has these names too; safetensors are what is always written here.
  const ToolOptions options(arguments, {.with_value = {"tag", "t", "max_shard_size"},
                                        .switches = {"safe_serialization", "exclude_frozen_parameters"}});
  if (options.words().size() != 2) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "two folders are needed. Usage: deepscale zero_to_fp32 CHECKPOINT_DIR OUTPUT [--tag TAG]; see "
        "deepscale zero_to_fp32 --help.");
  }
  const std::string& output = options.words()[1];
  const Consolidated made =
      consolidate({.checkpoint = options.words()[0],
                   .output = output,
                   .tag = options.text("tag", options.text("t", "")),
                   .max_shard_bytes = options.bytes("max_shard_size", ModelWriter::kDefaultShardBytes),
                   .with_frozen_parameters = !options.has("exclude_frozen_parameters")});
  return fmt::format("{}: {} tensors, {:.2f} GB, from {} in {} file{} of {}\n", options.words()[0],
                     made.tensors, static_cast<double>(made.bytes) / 1e9, made.tag, made.files,
                     made.files == 1 ? "" : "s", output);
}

std::string consolidate_help() {
  return "Usage: deepscale zero_to_fp32 CHECKPOINT_DIR OUTPUT [--tag TAG] [--max_shard_size 5GB]\n\n"
         "Puts a sharded checkpoint together as fp32 safetensors that transformers loads.\n"
         "CHECKPOINT_DIR is what Engine::save_checkpoint was given, OUTPUT a folder.\n\n"
         "  --tag TAG                    another checkpoint than the latest\n"
         "  --max_shard_size SIZE        of one file (5GB); more of them come with an index\n"
         "  --exclude_frozen_parameters  trainable parameters and buffers only\n";
}

}  // namespace deepscale
