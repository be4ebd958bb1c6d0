// Reads of a file that go past the system's cache where its file system can: streaming a model through the
// cache would copy every byte once more and push everything else out.
//
// Any thread may read, several at a time. Blocking. Errors name the file: kNotFound, kSystem, kProtocol where
// the file ends before the bytes do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "runtime/checkpoint/direct_memory.h"

namespace deepscale {

class DirectFile {
 public:
  explicit DirectFile(const std::filesystem::path& path);
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  // `offset`, `bytes` and `destination` are multiples of kDirectAlignment. Returns the bytes that were read,
  // fewer only where the file ends.
  std::int64_t read(std::int64_t offset, std::int64_t bytes, std::byte* destination) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::intptr_t handle_ = -1;
};

}  // namespace deepscale
