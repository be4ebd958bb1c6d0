// Files of named tensors in the safetensors format, written in one go and read piece by piece.
//
// A file is 8 bytes of header length (little-endian), a JSON header {name: {dtype, shape, data_offsets}}, and
// the bytes. Beside what others write, each tensor of ours has a CRC-32 of its bytes in "__metadata__", under
// "crc32:NAME"; reading a tensor checks it where it is there. A header from outside is refused unless every
// offset lies in the file and every size agrees.
//
// Blocking; a reader is for one thread. Errors name the file: kNotFound, kSystem (with the system's text, for
// example a full disk), kProtocol for bytes that are not as they should be.
// Format: https://huggingface.co/docs/safetensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace deepscale {

struct StoredTensor {
  std::string name;
  std::string dtype;  // "F32", "BF16", "F16", "I64", "I32", "U8", "BOOL", "F64"
  std::vector<std::int64_t> shape;
  const void* data = nullptr;  // contiguous; bytes follow from dtype and shape
};

// Bytes of one element; Error(kUnsupported) for a name that is not among those above.
std::int64_t stored_element_size(const std::string& dtype);

// What stands before the bytes of the tensors: the header's length, the header, padded to a multiple of 8.
std::string safetensors_prefix(std::string header);

// Writes the file and waits until it is on the disk. Whoever needs atomicity writes under another name.
void write_safetensors(const std::filesystem::path& path, const std::vector<StoredTensor>& tensors);

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
  const std::filesystem::path& path() const { return path_; }
  // `destination` has room for the entry's bytes. Error(kNotFound) for a name that is not in the file.
  void read(const std::string& name, void* destination);

 private:
  [[noreturn]] void refuse(const std::string& why) const;
  void read_header();

  std::filesystem::path path_;
  std::ifstream file_;
  std::int64_t file_bytes_ = 0;
  std::map<std::string, Entry> entries_;
};

}  // namespace deepscale
