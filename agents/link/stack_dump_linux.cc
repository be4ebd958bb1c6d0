#include <execinfo.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>

#include "agents/link/stack_dump.h"

namespace deepscale {
namespace {

constexpr int kMostFrames = 64;
constexpr int kFramesOfHandler = 2;  // print_own_stack() and handle_request()
constexpr int kPatienceMilliseconds = 500;

// A handler has nothing but what is global. One block at a time, and how many threads have yet to print
// theirs.
std::atomic<bool> is_printing = false;
std::atomic<int> threads_to_come = 0;

// Everything below runs in a signal handler: async-signal-safe calls only.

void sleep_a_millisecond() {
  const timespec time = {0, 1'000'000};
  ::nanosleep(&time, nullptr);
}

pid_t own_thread() {
  return static_cast<pid_t>(::syscall(SYS_gettid));
}

void print_own_stack() {
  for (int i = 0; i < kPatienceMilliseconds && is_printing.exchange(true); ++i) sleep_a_millisecond();
  char title[96] = "deepscale: stack of thread ";
  char* end = std::to_chars(title + std::strlen(title), title + 48, own_thread()).ptr;
  std::memcpy(end, " (", 2);
  char* name = end + 2;
  ::prctl(PR_GET_NAME, name);  // at most 16 bytes
  end = name + std::strlen(name);
  std::memcpy(end, "):\n", 3);
  void* frames[kMostFrames];
  const int count = ::backtrace(frames, kMostFrames);
  [[maybe_unused]] const auto written =
      ::write(STDERR_FILENO, title, static_cast<std::size_t>(end + 3 - title));
  if (count > kFramesOfHandler)
    ::backtrace_symbols_fd(frames + kFramesOfHandler, count - kFramesOfHandler, STDERR_FILENO);
  is_printing = false;
}

// Sends the signal to every other thread of the process; how many got it.
int ask_other_threads(int signal) {
  struct Entry {  // as getdents64(2) has it
    std::uint64_t inode;
    std::int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[1];
  };
  alignas(Entry) char buffer[4096];
  const int list = ::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int asked = 0;
  for (long size = 0; list >= 0 && (size = ::syscall(SYS_getdents64, list, buffer, sizeof buffer)) > 0;) {
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      at += entry->length;
      const char* name = buffer + (reinterpret_cast<const char*>(entry->name) - buffer);
      pid_t thread = 0;
      std::from_chars(name, name + std::strlen(name), thread);
      if (thread <= 0 || thread == own_thread()) continue;
      ++threads_to_come;
      if (::syscall(SYS_tgkill, ::getpid(), thread, signal) == 0) {
        ++asked;
      } else {
        --threads_to_come;
      }
    }
  }
  if (list >= 0) ::close(list);
  return asked;
}

void handle_request(int signal, siginfo_t* information, void*) {
  const int error = errno;
  if (information->si_code == SI_TKILL && information->si_pid == ::getpid()) {
    print_own_stack();
    --threads_to_come;
  } else {  // the first thread to hear of it, as a rule the main one
    threads_to_come = 0;
    if (ask_other_threads(signal) > 0) {
      // A thread that blocks the signal does not answer.
      for (int i = 0; i < kPatienceMilliseconds && threads_to_come > 0; ++i) sleep_a_millisecond();
    }
    print_own_stack();
  }
  errno = error;
}

bool has_standard_action(int signal) {
  struct sigaction action = {};
  return ::sigaction(signal, nullptr, &action) == 0 && (action.sa_flags & SA_SIGINFO) == 0 &&
         action.sa_handler == SIG_DFL;
}

bool is_installed() {
  struct sigaction action = {};
  return ::sigaction(SIGQUIT, nullptr, &action) == 0 && (action.sa_flags & SA_SIGINFO) != 0 &&
         action.sa_sigaction == handle_request;
}

}  // namespace

void install_stack_dump() {
  if (!has_standard_action(SIGQUIT)) return;
  void* frame = nullptr;
  ::backtrace(&frame, 1);  // its first call loads a library, which a handler must not
  struct sigaction action = {};
  action.sa_sigaction = handle_request;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGQUIT, &action, nullptr);
}

void dump_stacks() {
  if (is_installed()) ::kill(::getpid(), SIGQUIT);
}

}  // namespace deepscale
