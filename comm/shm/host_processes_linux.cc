#include <fmt/core.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "comm/base/error.h"
#include "comm/shm/host_processes.h"

namespace deepscale::shm {

std::int64_t own_process_id() {
  return getpid();
}

ProcessorSet usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  ProcessorSet processors;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return processors;
  const auto limit = std::min<std::size_t>(CPU_SETSIZE, processors.size());
  for (std::size_t i = 0; i < limit; ++i) processors[i] = CPU_ISSET(i, &set);
  return processors;
}

struct PeerProcess::Handle {
  explicit Handle(int descriptor) : fd(descriptor) {}
  ~Handle() { close(fd); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  const int fd;
};

PeerProcess::PeerProcess(std::int64_t process_id) : id_(process_id) {
  const auto fd = static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(process_id), 0));
  if (fd < 0) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot watch process {} (pidfd_open): {}", process_id,
                                                std::generic_category().message(errno)));
  }
  handle_ = std::make_unique<Handle>(fd);
}

PeerProcess::PeerProcess(PeerProcess&&) noexcept = default;
PeerProcess::~PeerProcess() = default;

bool PeerProcess::has_ended() const {
  pollfd entry{.fd = handle_->fd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, 0) > 0;
}

}  // namespace deepscale::shm
