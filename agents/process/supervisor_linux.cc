#include "agents/process/supervisor_linux.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <system_error>

#include "agents/process/job_cgroup_linux.h"

namespace deepscale {
namespace {

// The supervisor's descriptors.
constexpr int kLink = 3;
constexpr int kCgroup = 4;

struct ExecFailure {
  SupervisorReport::Stage stage;
  int error;
};

void close_from(unsigned first) {
  if (::syscall(SYS_close_range, first, ~0U, 0) == 0) return;
  const long limit = ::sysconf(_SC_OPEN_MAX);  // a kernel before 5.9
  for (long fd = first; fd < (limit > 0 ? limit : 65536); ++fd) ::close(static_cast<int>(fd));
}

void reset_signal_handlers() {
  struct sigaction standard = {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);
}

// In the vforked process: becomes the child's program, or tells `failures` why not.
[[noreturn]] void become_child(const ExecPlan& plan, pid_t supervisor, int failures) {
  const auto fail = [failures](SupervisorReport::Stage stage) {
    const ExecFailure failure{stage, errno};
    [[maybe_unused]] const auto written = ::write(failures, &failure, sizeof failure);
    ::_exit(127);
  };
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != supervisor) ::_exit(127);  // it died before the line above
  if (plan.cpus != nullptr && ::sched_setaffinity(0, sizeof *plan.cpus, plan.cpus) != 0) {
    fail(SupervisorReport::kAffinity);
  }
  if (plan.working_directory != nullptr && ::chdir(plan.working_directory) != 0) {
    fail(SupervisorReport::kWorkingDirectory);
  }
  ::setrlimit(RLIMIT_NOFILE, &plan.descriptors);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(plan.path, plan.arguments, plan.environment);
  fail(SupervisorReport::kExec);
  ::_exit(127);
}

// Forks into the cgroup: to move a process there once it runs takes the kernel some 10 ms. -1: not possible.
pid_t fork_into_cgroup() {
  clone_args arguments = {};
  arguments.flags = CLONE_INTO_CGROUP;
  arguments.exit_signal = SIGCHLD;
  arguments.cgroup = kCgroup;
  return static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
}

// It is in the kernel's exit already.
bool is_exiting(pid_t pid) {
  constexpr unsigned kExiting = 0x4;  // the kernel's PF_EXITING
  constexpr int kFlagsAfterName = 7;  // field 9 of proc(5)'s stat; the name is field 2
  char path[32];
  const auto end = std::to_chars(path + 6, path + sizeof path - 6, pid).ptr;
  std::memcpy(path, "/proc/", 6);
  std::memcpy(end, "/stat", 6);
  const int file = ::open(path, O_RDONLY | O_CLOEXEC);
  char text[512];
  const ssize_t size = ::read(file, text, sizeof text - 1);
  ::close(file);
  if (size <= 0) return false;
  text[size] = '\0';
  const char* field = std::strrchr(text, ')');
  for (int i = 0; field != nullptr && i < kFlagsAfterName; ++i) field = std::strchr(field + 1, ' ');
  unsigned flags = 0;
  if (field != nullptr) std::from_chars(field + 1, text + size, flags);
  return (flags & kExiting) != 0;
}

class Supervisor {
 public:
  explicit Supervisor(pid_t launcher) : launcher_(launcher) {}
  // Leaves our session, so that neither the terminal nor a kill of our group reaches it, and arranges the
  // descriptors: 0 to 2 as the child gets them, the link, nothing else.
  void settle(const ExecPlan& plan, int link);
  bool spawn(const ExecPlan& plan);
  // Until no process of the tree is left.
  void watch();
  void end_cgroup_of_dead_launcher(const char* path) const;

 private:
  void report(SupervisorReport report) const { ::send(kLink, &report, sizeof report, MSG_NOSIGNAL); }
  void report_failure(SupervisorReport::Stage stage, int error) const {
    report({.kind = SupervisorReport::kSpawnFailed, .stage = stage, .error = error});
  }
  // One child of ours: if one has ended (WNOHANG), or as soon as one ends (0).
  enum class Reaped { kOne, kNoneNow, kNoChildLeft };
  Reaped reap(int flags);
  // Before it is asked to end, or killed.
  void note_request();
  void signal_group(int signal);
  void kill_tree();
  // False when the system does not tell our children.
  bool kill_children() const;
  // False when the tree is to be killed.
  bool obey();

  const pid_t launcher_;
  bool has_cgroup_ = false;
  pid_t child_ = -1;  // -1 once it was reaped: then its number may be another's
  bool was_asked_to_end_ = false;
};

void Supervisor::settle(const ExecPlan& plan, int link) {
  // Should someone have stopped us, we have to see the link close. First of all: a process that is stopped
  // before this line, and then loses its parent, is woken by nobody.
  ::prctl(PR_SET_PDEATHSIG, SIGCONT);
  ::setsid();
  ::prctl(PR_SET_NAME, "deepscale-super");
  reset_signal_handlers();  // inherited handlers must not run here; an ignored SIGCHLD would hide ends
  ::dup2(plan.input, STDIN_FILENO);
  ::dup2(plan.output, STDOUT_FILENO);
  ::dup2(plan.error, STDERR_FILENO);
  const int cgroup = ::fcntl(plan.cgroup, F_DUPFD_CLOEXEC, kCgroup + 1);  // away from where the link goes
  ::dup2(link, kLink);
  ::fcntl(kLink, F_SETFD, FD_CLOEXEC);
  has_cgroup_ = cgroup >= 0 && ::dup3(cgroup, kCgroup, O_CLOEXEC) >= 0;
  close_from(has_cgroup_ ? kCgroup + 1 : kCgroup);
}

bool Supervisor::spawn(const ExecPlan& plan) {
  int failures[2];
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0 || ::pipe2(failures, O_CLOEXEC) != 0) {
    report_failure(SupervisorReport::kSupervise, errno);
    return false;
  }
  const pid_t supervisor = ::getpid();
  pid_t child = has_cgroup_ ? fork_into_cgroup() : -1;
  if (child < 0) child = ::vfork();
  if (child == 0) become_child(plan, supervisor, failures[1]);
  if (child < 0) {
    report_failure(SupervisorReport::kFork, errno);
    return false;
  }
  ::close(failures[1]);
  ExecFailure failure;
  if (::read(failures[0], &failure, sizeof failure) == sizeof failure) {
    ::waitpid(child, nullptr, 0);
    report_failure(failure.stage, failure.error);
    return false;
  }
  ::close(failures[0]);
  child_ = child;
  // The pipes must end with the tree, not with us.
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    nothing < 0 ? ::close(fd) : ::dup2(nothing, fd);
  }
  report({.kind = SupervisorReport::kStarted, .pid = child});
  return true;
}

void Supervisor::watch() {
  sigset_t child_ended;
  ::sigemptyset(&child_ended);
  ::sigaddset(&child_ended, SIGCHLD);
  const int ends = ::signalfd(-1, &child_ended, SFD_CLOEXEC | SFD_NONBLOCK);
  pollfd watched[] = {{kLink, POLLIN, 0}, {ends, POLLIN, 0}};
  // A SIGCHLD from before signalfd() is pending still, since all signals are blocked.
  while (true) {
    ::poll(watched, 2, -1);
    signalfd_siginfo information;
    while (::read(ends, &information, sizeof information) > 0) {
    }
    Reaped reaped = Reaped::kOne;
    while (reaped == Reaped::kOne) reaped = reap(WNOHANG);
    if (reaped == Reaped::kNoChildLeft) return;
    if (watched[0].revents != 0 && !obey()) {
      kill_tree();
      return;
    }
  }
}

Supervisor::Reaped Supervisor::reap(int flags) {
  int status = 0;
  rusage usage = {};
  const pid_t pid = ::wait4(-1, &status, flags, &usage);
  if (pid < 0) return errno == ECHILD ? Reaped::kNoChildLeft : Reaped::kNoneNow;
  if (pid == 0) return Reaped::kNoneNow;
  if (pid == child_) {
    child_ = -1;
    report({.kind = SupervisorReport::kEnded,
            .wait_status = status,
            .was_asked_to_end = was_asked_to_end_,
            .peak_rss_kib = usage.ru_maxrss});
  }
  return Reaped::kOne;
}

bool Supervisor::obey() {
  SupervisorCommand command;
  const auto size = ::recv(kLink, &command, sizeof command, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (size != sizeof command || command.kind == SupervisorCommand::kKillTree) return false;
  if (command.kind == SupervisorCommand::kSignalGroup) {
    signal_group(command.signal);
  } else if (child_ > 0) {
    ::kill(child_, command.signal);
    ::kill(child_, SIGCONT);
  }
  return true;
}

// A rank that dies takes its connections with it, so the others may have failed, and we may have been told to
// end all, before we hear of its end. Then that was not our doing.
void Supervisor::note_request() {
  if (child_ < 0 || !is_exiting(child_)) was_asked_to_end_ = true;
}

void Supervisor::signal_group(int signal) {
  if (child_ < 0) return;
  note_request();
  for (const int each : {signal, SIGCONT}) {
    if (::kill(-child_, each) != 0) ::kill(child_, each);  // the group is empty when the child left it
  }
}

void Supervisor::kill_tree() {
  note_request();
  if (child_ > 0) ::kill(-child_, SIGKILL);
  // Every process of the tree has an ancestor among our children. The end of one of them wakes us, and its
  // own children are ours by then, so the next round finds them.
  while (kill_children() && reap(0) != Reaped::kNoChildLeft) {
  }
}

bool Supervisor::kill_children() const {
  const int list = ::open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  if (list < 0) return false;
  pid_t pid = 0;
  char text[4096];
  for (ssize_t size = 0; (size = ::read(list, text, sizeof text)) > 0;) {
    for (ssize_t i = 0; i < size; ++i) {
      if (text[i] >= '0' && text[i] <= '9') {
        pid = 10 * pid + (text[i] - '0');
      } else if (pid > 0) {  // every number is followed by a space
        ::kill(pid, SIGKILL);
        pid = 0;
      }
    }
  }
  ::close(list);
  return true;
}

// What is left in it then was below a supervisor that was killed too. A launcher that dies closes the link
// some time before it stops being our parent.
void Supervisor::end_cgroup_of_dead_launcher(const char* path) const {
  if (has_cgroup_ && (is_exiting(launcher_) || ::getppid() != launcher_)) end_cgroup(kCgroup, path);
}

[[noreturn]] void run_supervisor(const ExecPlan& plan, int link, pid_t launcher) {
  Supervisor supervisor(launcher);
  supervisor.settle(plan, link);
  if (supervisor.spawn(plan)) supervisor.watch();
  supervisor.end_cgroup_of_dead_launcher(plan.cgroup_path);
  ::_exit(0);
}

}  // namespace

pid_t fork_supervisor(const ExecPlan& plan, int link) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t launcher = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) run_supervisor(plan, link, launcher);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) throw std::system_error(error, std::generic_category(), "fork");
  return pid;
}

}  // namespace deepscale
