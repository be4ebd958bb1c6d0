#include "agents/process/descriptors_linux.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace deepscale {
namespace {

void check(bool succeeded, const char* what) {
  if (!succeeded) throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

UniqueDescriptor::UniqueDescriptor(int fd) : fd_(fd) {
  if (fd > STDERR_FILENO)
    return;  // ours were closed: what the supervisor arranges there must not hit this one
  fd_ = ::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  ::close(fd);
}

UniqueDescriptor& UniqueDescriptor::operator=(UniqueDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

UniqueDescriptor::~UniqueDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

int UniqueDescriptor::release() {
  return std::exchange(fd_, -1);
}

DescriptorPair output_pipe() {
  int ends[2];
  check(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
  DescriptorPair pair{UniqueDescriptor(ends[0]), UniqueDescriptor(ends[1])};
  ::fcntl(pair.ours.get(), F_SETFL, O_NONBLOCK);
  return pair;
}

DescriptorPair link_pair() {
  int ends[2];
  check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
  return {UniqueDescriptor(ends[0]), UniqueDescriptor(ends[1])};
}

UniqueDescriptor null_input() {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  check(fd >= 0, "/dev/null");
  return UniqueDescriptor(fd);
}

}  // namespace deepscale
