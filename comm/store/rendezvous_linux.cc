#include "comm/store/rendezvous.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "comm/base/error.h"

namespace deepscale {

namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int value) : value_(value) {}
  ~FileDescriptor() {
    if (value_ >= 0) ::close(value_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

[[noreturn]] void fail(const char* what, const std::filesystem::path& file) {
  throw Error(ErrorCode::kSystem,
              fmt::format("cannot {} {}: {}; set MASTER_ADDR and MASTER_PORT, then the ranks need no file",
                          what, file.string(), std::generic_category().message(errno)));
}

struct ProcessFacts {
  std::string name;
  pid_t parent = 0;
  std::string start_time;  // in clock ticks since boot: with it, a process id names one process for good
};

ProcessFacts facts_of(pid_t pid) {
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  const std::string text((std::istreambuf_iterator<char>(stat)), {});
  // The second field is the program's name in parentheses, which may hold anything; the parent is the 4th and
  // the start time the 22nd.
  const auto begin = text.find('(');
  const auto end = text.rfind(')');
  ProcessFacts facts;
  if (begin == std::string::npos || end == std::string::npos) return facts;
  facts.name = text.substr(begin + 1, end - begin - 1);
  std::istringstream fields(text.substr(end + 1));
  std::string state;
  fields >> state >> facts.parent >> facts.start_time;
  for (int i = 6; i <= 22; ++i) fields >> facts.start_time;
  return facts;
}

// The names, or how they begin, of the processes that start the ranks of one host.
std::vector<std::string> starter_names(StartedBy started_by) {
  switch (started_by) {
    case StartedBy::kOpenMpi:
      return {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prte"};
    case StartedBy::kPmi:
      return {"hydra_pmi_proxy", "hydra_bstrap"};
    case StartedBy::kSlurm:
      return {"slurmstepd"};
    case StartedBy::kNobody:
    case StartedBy::kDeepScale:
    case StartedBy::kEnvironment:
      break;
  }
  return {};
}

pid_t starter_of_this(StartedBy started_by) {
  const std::vector<std::string> names = starter_names(started_by);
  for (pid_t pid = ::getppid(); pid > 1;) {
    const ProcessFacts facts = facts_of(pid);
    for (const std::string& name : names) {
      if (facts.name.rfind(name, 0) == 0) return pid;
    }
    pid = facts.parent;
  }
  return ::getppid();
}

}  // namespace

std::filesystem::path rendezvous_file(StartedBy started_by) {
  const pid_t starter = starter_of_this(started_by);
  return std::filesystem::temp_directory_path() /
         fmt::format("deepscale-{}-{}-{}.port", ::geteuid(), starter, facts_of(starter).start_time);
}

void publish_port(const std::filesystem::path& file, int port) {
  const std::string draft = fmt::format("{}.{}", file.string(), ::getpid());
  ::unlink(draft.c_str());
  const FileDescriptor descriptor(::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  const std::string text = fmt::format("{}\n", port);
  const bool written =
      descriptor.get() >= 0 &&
      ::write(descriptor.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
      std::rename(draft.c_str(), file.c_str()) == 0;
  if (written) return;
  const int cause = errno;
  ::unlink(draft.c_str());
  errno = cause;
  fail("publish the port of the store in", file);
}

std::optional<int> published_port(const std::filesystem::path& file) {
  const FileDescriptor descriptor(::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (descriptor.get() < 0 && errno == ENOENT) return std::nullopt;
  struct stat status {};
  if (descriptor.get() < 0 || ::fstat(descriptor.get(), &status) != 0)
    fail("read the port of the store from", file);
  if (status.st_uid != ::geteuid()) {
    errno = EPERM;
    fail("believe another user's port of the store in", file);
  }
  std::array<char, 16> text{};
  const ssize_t size = ::read(descriptor.get(), text.data(), text.size());
  if (size < 0) fail("read the port of the store from", file);
  int port = 0;
  const char* const end = text.data() + size;
  const auto [rest, failure] = std::from_chars(text.data(), end, port);
  if (failure != std::errc() || rest + 1 != end || *rest != '\n' || port < 1 || port > 65535) {
    throw Error(ErrorCode::kProtocol, fmt::format("{} does not hold a port; delete it", file.string()));
  }
  return port;
}

}  // namespace deepscale
