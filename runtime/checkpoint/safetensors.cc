#include "runtime/checkpoint/safetensors.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "comm/base/error.h"
#include "runtime/checkpoint/crc32.h"
#include "runtime/checkpoint/durable_file.h"

namespace deepscale {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxHeaderBytes = 100'000'000;  // as the reference implementation
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kChecksumPrefix = "crc32:";

std::string checksum_of(const void* data, std::int64_t bytes) {
  static const Crc32 crc(Crc32::kIeee);
  return fmt::format("{:08x}", crc.of(data, static_cast<std::size_t>(bytes)));
}

// Bytes of a tensor; nothing when a size is negative or they do not fit into 63 bits.
std::optional<std::int64_t> bytes_of(const std::string& dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t bytes = stored_element_size(dtype);
  for (const std::int64_t size : shape) {
    if (size < 0 || (size > 0 && bytes > std::numeric_limits<std::int64_t>::max() / size))
      return std::nullopt;
    bytes *= size;
  }
  return bytes;
}

// `room`: bytes of all tensors. Throws what is wrong with the description.
SafetensorsReader::Entry entry_of(const Json& description, std::int64_t data_begin, std::int64_t room) {
  SafetensorsReader::Entry entry;
  entry.dtype = description.at("dtype").get<std::string>();
  entry.shape = description.at("shape").get<std::vector<std::int64_t>>();
  const auto offsets = description.at("data_offsets").get<std::array<std::int64_t, 2>>();
  const auto [begin, end] = offsets;
  const std::optional<std::int64_t> bytes = bytes_of(entry.dtype, entry.shape);
  if (!bytes || begin < 0 || end < begin || end > room || *bytes != end - begin) {
    throw std::out_of_range(fmt::format("bytes {} to {} of {} do not fit its shape", begin, end, room));
  }
  entry.begin = data_begin + begin;
  entry.bytes = *bytes;
  return entry;
}

}  // namespace

std::int64_t stored_element_size(const std::string& dtype) {
  static const std::map<std::string, std::int64_t> sizes = {{"F64", 8}, {"I64", 8},  {"F32", 4},  {"I32", 4},
                                                            {"F16", 2}, {"BF16", 2}, {"BOOL", 1}, {"U8", 1}};
  const auto found = sizes.find(dtype);
  if (found != sizes.end()) return found->second;
  throw Error(ErrorCode::kUnsupported, fmt::format("safetensors: no tensors of type {} here", dtype));
}

std::string safetensors_prefix(std::string header) {
  header.append((8 - header.size() % 8) % 8, ' ');  // the bytes of the tensors are aligned
  const std::uint64_t length = header.size();
  std::string prefix(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) prefix[i] = static_cast<char>(length >> (8 * i));
  return prefix + header;
}

void write_safetensors(const std::filesystem::path& path, const std::vector<StoredTensor>& tensors) {
  Json header = Json::object();
  Json metadata = Json::object();
  std::vector<std::int64_t> sizes;
  std::int64_t offset = 0;
  for (const StoredTensor& tensor : tensors) {
    sizes.push_back(bytes_of(tensor.dtype, tensor.shape).value());
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + sizes.back()}}};
    metadata[kChecksumPrefix + tensor.name] = checksum_of(tensor.data, sizes.back());
    offset += sizes.back();
  }
  header[kMetadata] = metadata;
  const std::string prefix = safetensors_prefix(header.dump());

  DurableFile file(path);
  file.write(prefix.data(), prefix.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    file.write(tensors[i].data, static_cast<std::size_t>(sizes[i]));
  }
  file.finish();
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path) : path_(path) {
  errno = 0;
  file_.open(path, std::ios::binary);
  if (!file_) {
    throw Error(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kSystem,
                fmt::format("cannot read {}: {}", path.string(), std::strerror(errno)));
  }
  file_.seekg(0, std::ios::end);
  file_bytes_ = static_cast<std::int64_t>(file_.tellg());
  read_header();
}

void SafetensorsReader::refuse(const std::string& why) const {
  throw Error(ErrorCode::kProtocol,
              fmt::format("{}: {}; the file is damaged or no safetensors file", path_.string(), why));
}

void SafetensorsReader::read_header() {
  unsigned char prefix[8];
  file_.seekg(0);
  if (!file_.read(reinterpret_cast<char*>(prefix), sizeof prefix)) refuse("it is shorter than 8 bytes");
  std::uint64_t length = 0;
  for (int i = 8; i-- > 0;) length = length << 8 | prefix[i];
  if (length > static_cast<std::uint64_t>(std::min(kMaxHeaderBytes, file_bytes_ - 8))) {
    refuse(fmt::format("its header of {} bytes does not fit into its {} bytes", length, file_bytes_));
  }
  std::string text(static_cast<std::size_t>(length), ' ');
  if (!file_.read(text.data(), static_cast<std::streamsize>(length))) refuse("its header cannot be read");
  const Json header = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) refuse("its header is no JSON object");
  const std::int64_t data_begin = 8 + static_cast<std::int64_t>(length);
  for (const auto& [name, description] : header.items()) {
    if (name == kMetadata) continue;
    try {
      entries_.emplace(name, entry_of(description, data_begin, file_bytes_ - data_begin));
    } catch (const std::exception& error) {
      refuse(fmt::format("the description of tensor '{}' is wrong ({})", name, error.what()));
    }
  }
  const auto metadata = header.find(kMetadata);
  if (metadata == header.end() || !metadata->is_object()) return;
  for (const auto& [key, value] : metadata->items()) {
    if (key.rfind(kChecksumPrefix, 0) != 0 || !value.is_string()) continue;
    const auto entry = entries_.find(key.substr(std::strlen(kChecksumPrefix)));
    if (entry != entries_.end()) entry->second.checksum = value.get<std::string>();
  }
}

void SafetensorsReader::read(const std::string& name, void* destination) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no tensor '{}' in it", path_.string(), name));
  }
  const Entry& entry = found->second;
  file_.clear();
  file_.seekg(entry.begin);
  if (!file_.read(static_cast<char*>(destination), entry.bytes)) {
    refuse(fmt::format("tensor '{}' cannot be read", name));
  }
  if (!entry.checksum.empty() && checksum_of(destination, entry.bytes) != entry.checksum) {
    refuse(fmt::format("tensor '{}' does not have the checksum that it was written with", name));
  }
}

}  // namespace deepscale
