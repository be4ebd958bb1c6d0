// Writing files so that a crash or a full disk loses nothing that was there before.
//
// Blocking. Errors are Error(kSystem) with the file's name and the system's text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>

namespace deepscale {

// A new file, or an old one anew. Its destructor closes it and leaves what was written so far.
class DurableFile {
 public:
  explicit DurableFile(const std::filesystem::path& path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* data, std::size_t bytes);
  // write() goes over the begin of the file from now on.
  void rewind();
  // Returns when all of it is on the disk.
  void finish();

 private:
  [[noreturn]] void fail(const char* what) const;

  const std::filesystem::path path_;
  std::intptr_t handle_;  // of the system
};

// The file has the new text or, whatever happens, still the old one: written beside it, then renamed over it.
void replace_file(const std::filesystem::path& path, std::string_view text);

// What was created, renamed or removed in the folder is on the disk. Nothing where a system has no such call.
void flush_folder(const std::filesystem::path& folder);

}  // namespace deepscale
