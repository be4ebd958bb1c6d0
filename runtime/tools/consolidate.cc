#include "runtime/tools/consolidate.h"

#include <fmt/core.h>

#include <cstring>

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

// What rank 0 saved whole, and its name in the model.
struct WholeTensor {
  std::string stored;
  DeclaredTensor declared;
};

std::vector<WholeTensor> whole_tensors(const SafetensorsReader& file, bool with_frozen_parameters) {
  std::vector<WholeTensor> whole;
  for (const auto& [name, entry] : file.entries()) {
    const std::string kind = name.substr(0, name.find('/'));
    if (kind != "buffer" && (kind != "frozen" || !with_frozen_parameters)) continue;
    const std::string dtype = is_16_bit(entry.dtype) ? "F32" : entry.dtype;
    whole.push_back({name, {name.substr(kind.size() + 1), dtype, entry.shape}});
  }
  return whole;
}

std::vector<char> read_as_fp32(SafetensorsReader& file, const std::string& name) {
  const SafetensorsReader::Entry& entry = file.entries().at(name);
  std::vector<char> bytes(static_cast<std::size_t>(entry.bytes));
  file.read(name, bytes.data());
  if (!is_16_bit(entry.dtype)) return bytes;
  std::vector<char> widened(bytes.size() * 2);
  for (std::size_t i = 0; i < bytes.size() / 2; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    const float value = entry.dtype == "BF16" ? bf16_to_float(bits) : fp16_to_float(bits);
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
  SafetensorsReader& first_file = saved.files().front();
  const std::vector<WholeTensor> whole = whole_tensors(first_file, options.with_frozen_parameters);

  std::vector<DeclaredTensor> declared;
  for (const auto& [name, shape] : index.parameters) declared.push_back({name, "F32", shape});
  for (const WholeTensor& tensor : whole) declared.push_back(tensor.declared);
  ModelWriter writer(options.output, declared, options.max_shard_bytes);
  const auto write = [&](const void* data, std::size_t bytes) {
    writer.write(data, static_cast<std::int64_t>(bytes));
    result.bytes += static_cast<std::int64_t>(bytes);
  };
  for (const auto& [name, shape] : index.parameters) {
    std::vector<float> values(static_cast<std::size_t>(numel_of(shape)));
    saved.read({name, "master", 0, numel_of(shape)}, values.data());
    write(values.data(), values.size() * sizeof(float));
  }
  for (const WholeTensor& tensor : whole) {
    const std::vector<char> bytes = read_as_fp32(first_file, tensor.stored);
    write(bytes.data(), bytes.size());
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
