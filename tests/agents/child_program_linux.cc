#include "tests/agents/child_program.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace deepscale::testing {
namespace {

int exit_code_at_stop = 0;

void exit_now(int) {
  ::_exit(exit_code_at_stop);
}

}  // namespace

void use_binary_output() {}

long long process_id() {
  return ::getpid();
}

void ignore_stop_requests() {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) std::signal(signal, SIG_IGN);
}

void exit_at_stop_request(int code) {
  exit_code_at_stop = code;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) std::signal(signal, exit_now);
}

void close_output() {
  ::close(STDOUT_FILENO);
  ::close(STDERR_FILENO);
}

void stop_this_process() {
  std::raise(SIGSTOP);
}

void crash() {
  const rlimit no_core_file = {0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core_file);
  std::signal(SIGSEGV, SIG_DFL);  // a sanitizer's handler would make an exit code of it
  std::raise(SIGSEGV);
  ::_exit(99);
}

long long start_grandchild(const char* program, Grandchild kind) {
  int pids[2];
  if (::pipe(pids) != 0) ::_exit(98);
  const pid_t child = ::fork();
  if (child == 0) {
    if (kind != Grandchild::kPlain) ::setsid();
    if (kind == Grandchild::kOrphan && ::fork() != 0) ::_exit(0);
    const long long pid = ::getpid();
    if (::write(pids[1], &pid, sizeof pid) != sizeof pid) ::_exit(98);
    ::close(pids[0]);
    ::close(pids[1]);
    ::execl(program, program, "hang", nullptr);
    ::_exit(98);
  }
  if (kind == Grandchild::kOrphan) ::waitpid(child, nullptr, 0);
  long long grandchild = -1;
  if (::read(pids[0], &grandchild, sizeof grandchild) != sizeof grandchild) ::_exit(98);
  ::close(pids[0]);
  ::close(pids[1]);
  return grandchild;
}

}  // namespace deepscale::testing
