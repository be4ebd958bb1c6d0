// Writing files so that a crash or a full disk loses nothing that was there before.
//
// Blocking. Errors are Error(kSystem) with the file's name and the system's text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <future>
#include <span>
#include <string_view>

#include "runtime/checkpoint/direct_memory.h"

namespace deepscale {

// A new file, or an old one anew. Its destructor closes it, complete or not. On Linux a large file goes past
// the system's cache where its file system can do that: writing the cache back would hold up other work, and
// nobody reads the file again soon. A thread of its own waits for the system meanwhile, so what goes wrong
// may be thrown by the call after, up to finish().
class DurableFile {
 public:
  explicit DurableFile(const std::filesystem::path& path);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* data, std::size_t bytes);
  // The same by hand: where the next bytes go, of which there is a multiple of kRoomUnit up to 1 MiB, and
  // that so many of them are there.
  static constexpr std::size_t kRoomUnit = 64;
  std::span<std::byte> room();
  void advance(std::size_t bytes);
  // write() goes over the begin of the file from now on.
  void rewind();
  // Returns when all of it is on the disk.
  void finish();

 private:
  [[noreturn]] void fail(const char* what) const;
  void begin_handing_over();
  void settle();
  void write_rest();
  // To the system, through its cache or not.
  void hand_over(const std::byte* data, std::size_t bytes);
  void use_cache();

  const std::filesystem::path path_;
  std::intptr_t handle_;  // of the system
  bool is_direct_ = false;
  DirectMemory filling_, leaving_;  // a buffer each; one fills while another thread hands the other over
  std::size_t filled_ = 0;
  std::future<void> handed_over_;
};

// The file has the new text or, whatever happens, still the old one: written beside it, then renamed over it.
void replace_file(const std::filesystem::path& path, std::string_view text);

// What was created, renamed or removed in the folder is on the disk. Nothing where a system has no such call.
void flush_folder(const std::filesystem::path& folder);

}  // namespace deepscale
