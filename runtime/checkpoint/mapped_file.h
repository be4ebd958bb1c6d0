// A file as memory: its pages are read when they are touched, and all processes that map the file share them.
//
// The bytes may be written to; what is written stays in this process and never reaches the file (copy on
// write). So tensors may stand in a mapping and still be trained.
//
// The mapping lives as long as the object; opening does not read. On Windows the file can be neither replaced
// nor deleted meanwhile. A file that is cut short while it is mapped ends the process when the missing part
// is touched, as the systems have it. Any thread may read. Errors name the file: kNotFound, kSystem.
#pragma once

#include <cstddef>
#include <filesystem>

namespace deepscale {

class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::byte* data() const { return data_; }  // null where the file is empty
  std::size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace deepscale
