// Files of named tensors in the safetensors format, written in one go and read piece by piece.
//
// A file is 8 bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets}}, and
// the bytes. Beside what others write, each tensor of ours has a CRC-32 of its bytes in "__metadata__", under
// "crc32:NAME"; reading a tensor checks it where it is there. A header from outside is refused unless every
// offset lies in the file, every size agrees and no two tensors share bytes.
//
// A reader maps its file into memory (mapped_file.h). Blocking; any thread may read. Errors name the file:
// kNotFound, kSystem (with the system's text, for example a full disk), kProtocol for bytes that are not as
// they should be. Format: https://huggingface.co/docs/safetensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/checkpoint/durable_file.h"
#include "runtime/checkpoint/mapped_file.h"

namespace deepscale {

// Copies the bytes [begin, begin + bytes) of a tensor, of which there are at most 1 MiB, a multiple of
// DurableFile::kRoomUnit but for the last ones.
using ByteSource = std::function<void(std::int64_t begin, std::int64_t bytes, void* destination)>;

struct StoredTensor {
  std::string name;
  std::string dtype;  // one of the format's: "F32", "BF16", "I64", "BOOL", "F8_E4M3", ...
  std::vector<std::int64_t> shape;
  const void* data = nullptr;  // contiguous; bytes follow from dtype and shape
  ByteSource read;             // where `data` is null: gives the bytes, asked for in order
};

// Bits of one element; Error(kUnsupported) for a name that the format does not have.
std::int64_t stored_element_bits(const std::string& dtype);
// Bytes of a tensor; Error(kInvalidArgument) where they do not fit into 63 bits or are not whole.
std::int64_t stored_bytes(const std::string& dtype, const std::vector<std::int64_t>& shape);

// What stands before the bytes of the tensors: the header's length, the header, padded to a multiple of 8.
std::string safetensors_prefix(std::string header);

// Writes the file and waits until it is on the disk. Whoever needs atomicity writes under another name. What
// a ByteSource throws goes on to the caller.
void write_safetensors(const std::filesystem::path& path, const std::vector<StoredTensor>& tensors);

// Writes a file for others tensor by tensor, so that no two need to be in memory at once; no checksums.
class SafetensorsWriter {
 public:
  // The tensors' `data` and `read` are not used. transformers asks for {"format": "pt"} as metadata.
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<StoredTensor>& tensors,
                    const std::map<std::string, std::string>& metadata);
  // The bytes of the next tensor in their order.
  void append(const void* data);
  // Returns when all of it is on the disk. Error(kInternal) before the last tensor.
  void finish();

 private:
  DurableFile file_;
  std::vector<std::int64_t> sizes_;
  std::size_t next_ = 0;
};

class SafetensorsReader {
 public:
  struct Entry {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::int64_t begin = 0;  // in the file
    std::int64_t bytes = 0;
    std::string checksum;  // hexadecimal; empty: none
  };

  explicit SafetensorsReader(const std::filesystem::path& path);

  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return file_->path(); }
  const std::shared_ptr<MappedFile>& file() const { return file_; }

  // `destination` has room for the entry's bytes. Error(kNotFound) for a name that is not in the file.
  void read(const std::string& name, void* destination) const;
  // The bytes where they stand, for as long as file() lives; not aligned to more than the file has it. They
  // are not compared with the checksum, which would read them all.
  std::byte* bytes_of(const Entry& entry) const { return file_->data() + entry.begin; }

 private:
  [[noreturn]] void refuse(const std::string& why) const;
  void read_header();
  void refuse_shared_bytes() const;

  std::shared_ptr<MappedFile> file_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace deepscale
