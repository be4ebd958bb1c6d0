#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "comm/base/error.h"
#include "runtime/inference/direct_file.h"

namespace deepscale {

namespace {

[[noreturn]] void fail(const char* what, const std::filesystem::path& path, int error) {
  throw Error(error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kSystem,
              fmt::format("cannot {} {}: {}", what, path.string(), std::system_category().message(error)));
}

}  // namespace

DirectFile::DirectFile(const std::filesystem::path& path) : path_(path) {
  handle_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (handle_ < 0 && errno == EINVAL) handle_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);  // tmpfs, for one
  if (handle_ < 0) fail("open", path, errno);
}

DirectFile::~DirectFile() {
  ::close(static_cast<int>(handle_));
}

std::int64_t DirectFile::read(std::int64_t offset, std::int64_t bytes, std::byte* destination) const {
  std::int64_t done = 0;
  while (done < bytes) {
    const ssize_t count = ::pread(static_cast<int>(handle_), destination + done,
                                  static_cast<std::size_t>(bytes - done), offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", path_, errno);
    done += count;
    // A direct read that ends amid a block has reached the end of the file; asking again would be refused.
    if (count == 0 || count % kDirectAlignment != 0) break;
  }
  return done;
}

}  // namespace deepscale
