#include "agents/process/job_cgroup_linux.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

namespace deepscale {
namespace {

constexpr std::string_view kPrefix = "deepscale-";
constexpr int kMostCgroups = 1000;  // of this process at a time
constexpr int kMostTries = 1000;    // to remove one, a millisecond each

// Where the tree of version 2 is mounted, as a whole; empty: nowhere. proc(5): the mount's root is the 4th
// field and its place the 5th; behind " - " stands the kind of file system.
std::string cgroup_mount() {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(" - cgroup2 ") == std::string::npos) continue;
    std::istringstream fields(line);
    std::string skipped, root, place;
    fields >> skipped >> skipped >> skipped >> root >> place;
    if (root == "/") return place;
  }
  return "";
}

// The cgroup of this process; empty: none of version 2.
std::string own_cgroup() {
  const std::string mount = cgroup_mount();
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; !mount.empty() && std::getline(groups, line);) {
    if (line.rfind("0::/", 0) == 0) return mount + (line == "0::/" ? "" : line.substr(3));
  }
  return "";
}

// With those below it: launchers among the ranks make theirs there, and may have been killed. Only empty ones
// can be removed. False: one is in use. For the supervisor, too: only async-signal-safe calls.
bool remove_tree(int parent, const char* name) {
  if (::unlinkat(parent, name, AT_REMOVEDIR) == 0) return true;
  if (errno != EBUSY) return errno == ENOENT;
  const int folder = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  alignas(dirent64) char entries[4096];
  for (ssize_t size; (size = ::getdents64(folder, entries, sizeof entries)) > 0;) {
    for (ssize_t at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
      if (entry->d_type == DT_DIR && entry->d_name[0] != '.') remove_tree(folder, entry->d_name);
      at += entry->d_reclen;
    }
  }
  ::close(folder);
  return ::unlinkat(parent, name, AT_REMOVEDIR) == 0;
}

void remove_abandoned(const std::string& parent) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(kPrefix, 0) != 0) continue;
    pid_t launcher = 0;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), launcher);
    if (launcher > 0 && ::kill(launcher, 0) != 0 && errno == ESRCH)
      remove_tree(AT_FDCWD, entry.path().c_str());
  }
}

}  // namespace

JobCgroup::JobCgroup() {
  const std::string parent = own_cgroup();
  if (parent.empty() || ::access(parent.c_str(), W_OK) != 0) return;
  remove_abandoned(parent);
  for (int i = 0; i < kMostCgroups; ++i) {
    const std::string path = fmt::format("{}/{}{}-{}", parent, kPrefix, ::getpid(), i);
    if (::mkdir(path.c_str(), 0755) != 0) {
      if (errno == EEXIST) continue;
      return;
    }
    UniqueDescriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (::faccessat(folder.get(), "cgroup.kill", W_OK, 0) != 0) {  // a kernel before 5.14
      ::rmdir(path.c_str());
      return;
    }
    folder_ = std::move(folder);
    path_ = path;
    return;
  }
}

JobCgroup::~JobCgroup() {
  if (folder() >= 0 && !remove_tree(AT_FDCWD, path_.c_str())) end_cgroup(folder(), path_.c_str());
}

void end_cgroup(int folder, const char* path) {
  const int kill_file = ::openat(folder, "cgroup.kill", O_WRONLY | O_CLOEXEC);
  [[maybe_unused]] const auto written = ::write(kill_file, "1", 1);
  ::close(kill_file);
  constexpr timespec kMillisecond = {.tv_sec = 0, .tv_nsec = 1'000'000};
  for (int i = 0; i < kMostTries && !remove_tree(AT_FDCWD, path); ++i) ::nanosleep(&kMillisecond, nullptr);
}

}  // namespace deepscale
