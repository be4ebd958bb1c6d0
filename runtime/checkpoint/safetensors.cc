#include "runtime/checkpoint/safetensors.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "comm/base/error.h"
#include "runtime/checkpoint/crc32.h"

namespace deepscale {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kMaxHeaderBytes = 100'000'000;  // as the reference implementation
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kChecksumPrefix = "crc32:";

std::string checksum_key(const std::string& name) {
  return fmt::format("{}{}", kChecksumPrefix, name);
}

const Crc32& checksums() {
  static const Crc32 crc(Crc32::kIeee);
  return crc;
}

std::string as_text(std::uint32_t checksum) {
  return fmt::format("{:08x}", checksum);
}

std::string checksum_of(const void* data, std::int64_t bytes) {
  return as_text(checksums().of(data, static_cast<std::size_t>(bytes)));
}

// Bytes of a tensor; nothing when a size is negative, the bits do not fit into 63 or fill no whole bytes.
std::optional<std::int64_t> bytes_of(const std::string& dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t bits = stored_element_bits(dtype);
  for (const std::int64_t size : shape) {
    if (size < 0 || (size > 0 && bits > std::numeric_limits<std::int64_t>::max() / size)) return std::nullopt;
    bits *= size;
  }
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
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

std::int64_t stored_element_bits(const std::string& dtype) {
  static const std::map<std::string, std::int64_t> bits = {
      {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},    {"F32", 32},
      {"I32", 32},    {"U32", 32},    {"F16", 16},    {"BF16", 16},   {"I16", 16},
      {"U16", 16},    {"BOOL", 8},    {"U8", 8},      {"I8", 8},      {"F8_E4M3", 8},
      {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4}};
  const auto found = bits.find(dtype);
  if (found != bits.end()) return found->second;
  throw Error(ErrorCode::kUnsupported, fmt::format("safetensors: no tensors of type {} here", dtype));
}

std::int64_t stored_bytes(const std::string& dtype, const std::vector<std::int64_t>& shape) {
  if (const std::optional<std::int64_t> bytes = bytes_of(dtype, shape)) return *bytes;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format(
          "safetensors: a tensor of type {} cannot have this shape: its bytes are too many, or not whole",
          dtype));
}

std::string safetensors_prefix(std::string header) {
  header.append((8 - header.size() % 8) % 8, ' ');  // the bytes of the tensors are aligned
  const std::uint64_t length = header.size();
  std::string prefix(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) prefix[i] = static_cast<char>(length >> (8 * i));
  return prefix + header;
}

namespace {

std::string prefix_of(const std::vector<StoredTensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  std::int64_t begin = 0;
  for (const StoredTensor& tensor : tensors) {
    const std::int64_t end = begin + bytes_of(tensor.dtype, tensor.shape).value();
    header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  header[kMetadata] = metadata;
  return safetensors_prefix(header.dump());
}

// Piece by piece, straight to the file's buffer; returns the checksum.
std::uint32_t write_bytes(DurableFile& file, const StoredTensor& tensor) {
  const std::int64_t bytes = bytes_of(tensor.dtype, tensor.shape).value();
  std::uint32_t checksum = 0;
  for (std::int64_t begin = 0; begin < bytes;) {
    const std::span<std::byte> room = file.room();
    const std::int64_t count = std::min(static_cast<std::int64_t>(room.size()), bytes - begin);
    if (tensor.data != nullptr) {
      std::memcpy(room.data(), static_cast<const std::byte*>(tensor.data) + begin,
                  static_cast<std::size_t>(count));
    } else {
      tensor.read(begin, count, room.data());
    }
    checksum = checksums().extend(checksum, room.data(), static_cast<std::size_t>(count));
    file.advance(static_cast<std::size_t>(count));
    begin += count;
  }
  return checksum;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<StoredTensor>& tensors) {
  // The header comes first, and is complete when all bytes have passed: its checksums are all of one length.
  std::map<std::string, std::string> metadata;
  for (const StoredTensor& tensor : tensors) metadata[checksum_key(tensor.name)] = as_text(0);
  DurableFile file(path);
  const auto write_prefix = [&] {
    const std::string prefix = prefix_of(tensors, metadata);
    file.write(prefix.data(), prefix.size());
  };
  write_prefix();
  for (const StoredTensor& tensor : tensors)
    metadata[checksum_key(tensor.name)] = as_text(write_bytes(file, tensor));
  file.rewind();
  write_prefix();
  file.finish();
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::vector<StoredTensor>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  for (const StoredTensor& tensor : tensors) sizes_.push_back(bytes_of(tensor.dtype, tensor.shape).value());
  const std::string prefix = prefix_of(tensors, metadata);
  file_.write(prefix.data(), prefix.size());
}

void SafetensorsWriter::append(const void* data) {
  file_.write(data, static_cast<std::size_t>(sizes_.at(next_)));
  ++next_;
}

void SafetensorsWriter::finish() {
  if (next_ != sizes_.size()) {
    throw Error(ErrorCode::kInternal, fmt::format("{} of {} tensors were written", next_, sizes_.size()));
  }
  file_.finish();
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path)
    : file_(std::make_shared<MappedFile>(path)) {
  read_header();
  refuse_shared_bytes();
}

void SafetensorsReader::refuse(const std::string& why) const {
  throw Error(ErrorCode::kProtocol,
              fmt::format("{}: {}; the file is damaged or no safetensors file", path().string(), why));
}

void SafetensorsReader::read_header() {
  const auto file_bytes = static_cast<std::int64_t>(file_->size());
  if (file_bytes < 8) refuse("it is shorter than 8 bytes");
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(file_->data()[i]);
  if (length > static_cast<std::uint64_t>(std::min(kMaxHeaderBytes, file_bytes - 8))) {
    refuse(fmt::format("its header of {} bytes does not fit into its {} bytes", length, file_bytes));
  }
  const char* const text = reinterpret_cast<const char*>(file_->data()) + 8;
  const Json header = Json::parse(text, text + length, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) refuse("its header is no JSON object");
  const std::int64_t data_begin = 8 + static_cast<std::int64_t>(length);
  for (const auto& [name, description] : header.items()) {
    if (name == kMetadata) continue;
    try {
      entries_.emplace(name, entry_of(description, data_begin, file_bytes - data_begin));
    } catch (const std::exception& error) {
      refuse(fmt::format("the description of tensor '{}' is wrong ({})", name, error.what()));
    }
  }
  const auto metadata = header.find(kMetadata);
  if (metadata == header.end() || !metadata->is_object()) return;
  for (const auto& [key, value] : metadata->items()) {
    if (!value.is_string()) continue;
    const bool is_checksum = key.rfind(kChecksumPrefix, 0) == 0;
    const auto entry = entries_.find(is_checksum ? key.substr(std::strlen(kChecksumPrefix)) : "");
    if (is_checksum && entry != entries_.end()) entry->second.checksum = value.get<std::string>();
    if (!is_checksum) metadata_[key] = value.get<std::string>();
  }
}

void SafetensorsReader::refuse_shared_bytes() const {
  std::vector<const std::pair<const std::string, Entry>*> in_file;
  for (const auto& entry : entries_) {
    if (entry.second.bytes > 0) in_file.push_back(&entry);
  }
  std::sort(in_file.begin(), in_file.end(),
            [](const auto* a, const auto* b) { return a->second.begin < b->second.begin; });
  for (std::size_t i = 1; i < in_file.size(); ++i) {
    const auto& before = *in_file[i - 1];
    if (before.second.begin + before.second.bytes > in_file[i]->second.begin) {
      refuse(fmt::format("tensors '{}' and '{}' share bytes", before.first, in_file[i]->first));
    }
  }
}

void SafetensorsReader::read(const std::string& name, void* destination) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    throw Error(ErrorCode::kNotFound, fmt::format("{}: no tensor '{}' in it", path().string(), name));
  }
  const Entry& entry = found->second;
  if (entry.bytes > 0) std::memcpy(destination, bytes_of(entry), static_cast<std::size_t>(entry.bytes));
  if (!entry.checksum.empty() && checksum_of(destination, entry.bytes) != entry.checksum) {
    refuse(fmt::format("tensor '{}' does not have the checksum that it was written with", name));
  }
}

}  // namespace deepscale
