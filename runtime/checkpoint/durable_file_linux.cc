#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "comm/base/error.h"
#include "runtime/checkpoint/durable_file.h"

namespace deepscale {

namespace {

int open_new(const std::filesystem::path& path, int flags) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0666);
}

}  // namespace

DurableFile::DurableFile(const std::filesystem::path& path)
    : path_(path), handle_(open_new(path, O_DIRECT)), is_direct_(handle_ >= 0) {
  if (handle_ < 0 && errno == EINVAL) handle_ = open_new(path, 0);  // not on every file system
  if (handle_ < 0) fail("create");
}

DurableFile::~DurableFile() {
  if (handed_over_.valid()) handed_over_.wait();
  ::close(static_cast<int>(handle_));
}

void DurableFile::fail(const char* what) const {
  throw Error(ErrorCode::kSystem,
              fmt::format("cannot {} {}: {}", what, path_.string(), std::strerror(errno)));
}

void DurableFile::hand_over(const std::byte* data, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t written = ::write(static_cast<int>(handle_), data, std::min<std::size_t>(bytes, 1 << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EINVAL && is_direct_) {  // some file systems say so late
      use_cache();
      continue;
    }
    if (written < 0) fail("write to");
    data += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void DurableFile::use_cache() {
  if (std::exchange(is_direct_, false) && ::fcntl(static_cast<int>(handle_), F_SETFL, 0) != 0) {
    fail("write to");
  }
}

void DurableFile::rewind() {
  write_rest();
  if (::lseek(static_cast<int>(handle_), 0, SEEK_SET) != 0) fail("go back in");
}

void DurableFile::finish() {
  write_rest();
  if (::fsync(static_cast<int>(handle_)) != 0) fail("flush");
}

void flush_folder(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder.empty() ? "." : folder;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool flushed = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int error = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (flushed || error == EINVAL) return;  // EINVAL: this file system knows no such thing
  throw Error(ErrorCode::kSystem,
              fmt::format("cannot flush the folder {}: {}", path.string(), std::strerror(error)));
}

}  // namespace deepscale
