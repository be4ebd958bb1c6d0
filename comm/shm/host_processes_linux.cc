#include <fmt/core.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "comm/base/error.h"
#include "comm/shm/host_processes.h"

namespace deepscale::shm {

namespace {

// Field 22 of /proc/<pid>/stat; nothing when there is no such process.
std::optional<std::uint64_t> birth_of(std::int64_t process_id) {
  std::ifstream file(fmt::format("/proc/{}/stat", process_id));
  std::string text;
  std::getline(file, text);
  std::istringstream fields(text.substr(std::min(text.rfind(')') + 1, text.size())));  // behind its name
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  std::uint64_t birth = 0;
  return fields >> birth ? std::optional(birth) : std::nullopt;
}

}  // namespace

ProcessIdentity own_process() {
  const std::optional<std::uint64_t> birth = birth_of(getpid());
  if (!birth) throw Error(ErrorCode::kSystem, "/proc does not show this process; is it mounted?");
  return {getpid(), *birth};
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

// Its birth is looked at while it is held.
std::optional<PeerProcess> PeerProcess::find(const ProcessIdentity& identity) {
  const auto fd = static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(identity.id), 0));
  if (fd < 0 && errno == ESRCH) return std::nullopt;
  if (fd < 0) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot watch process {} (pidfd_open): {}", identity.id,
                                                std::generic_category().message(errno)));
  }
  PeerProcess found(std::make_unique<Handle>(fd));
  if (birth_of(identity.id) != identity.birth) return std::nullopt;
  return found;
}

PeerProcess::PeerProcess(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
PeerProcess::PeerProcess(PeerProcess&&) noexcept = default;
PeerProcess& PeerProcess::operator=(PeerProcess&&) noexcept = default;
PeerProcess::~PeerProcess() = default;

bool PeerProcess::has_ended() const {
  pollfd entry{.fd = handle_->fd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, 0) > 0;
}

}  // namespace deepscale::shm
