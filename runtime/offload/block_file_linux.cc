#include <fcntl.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>

#include "comm/base/error.h"
#include "runtime/offload/block_file.h"

namespace deepscale {
namespace {

std::error_code last_error() {
  return {errno, std::generic_category()};
}

int open_new(const std::filesystem::path& path, int flags) {
  return ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | flags, 0600);
}

}  // namespace

BlockFile::BlockFile(const std::filesystem::path& path) {
  int descriptor = open_new(path, O_DIRECT);
  if (descriptor < 0 && errno == EINVAL) {  // tmpfs, for one; some leave the file behind
    ::unlink(path.c_str());
    is_unbuffered_ = false;
    descriptor = open_new(path, 0);
  }
  if (descriptor < 0) {
    throw Error(
        ErrorCode::kSystem,
        fmt::format("cannot make the file {} for offloaded state: {}; is nvme_path a folder that this "
                    "process may write to?",
                    path.string(), last_error().message()));
  }
  ::unlink(path.c_str());
  handle_ = descriptor;
}

BlockFile::~BlockFile() {
  ::close(static_cast<int>(handle_));
}

std::error_code BlockFile::reserve(std::uint64_t bytes) {
  const int descriptor = static_cast<int>(handle_);
  const auto length = static_cast<off_t>(bytes);
  // Asked first, since beyond its limit a process gets SIGXFSZ, which ends it.
  rlimit limit;
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > limit.rlim_cur)
    return std::make_error_code(std::errc::file_too_large);
  if (::fallocate(descriptor, 0, 0, length) == 0) return {};
  if (errno != EOPNOTSUPP) return last_error();
  return ::ftruncate(descriptor, length) == 0 ? std::error_code() : last_error();
}

std::error_code BlockFile::transfer(const BlockOperation& operation) {
  const int descriptor = static_cast<int>(handle_);
  for (std::size_t done = 0; done < operation.bytes;) {
    std::byte* data = operation.data + done;
    const std::size_t bytes = operation.bytes - done;
    const auto offset = static_cast<off_t>(operation.offset + done);
    const ssize_t moved = operation.is_write ? ::pwrite(descriptor, data, bytes, offset)
                                             : ::pread(descriptor, data, bytes, offset);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return last_error();
    if (moved == 0) return std::make_error_code(std::errc::io_error);  // the file ends here
    done += static_cast<std::size_t>(moved);
  }
  return {};
}

}  // namespace deepscale
