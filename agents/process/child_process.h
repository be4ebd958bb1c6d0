// One child process and everything that it starts.
//
// From its first instruction the child is inside a kill scope that holds its whole tree: grandchildren, and
// also those that detached themselves (setsid, double fork). The scope ends shortly after the child itself,
// with kill(), with the destructor, and with the death of this process, however it dies: whoever is killed
// with -9, nothing of the tree remains.
//
//   Linux    A supervisor (supervisor_linux.h), forked from this process, stands between us and the child. It
//            is the subreaper of the tree: whatever loses its parent becomes the supervisor's own child, so
//            to end the tree it kills its children until it has none. It watches a socket to us and ends the
//            tree when that closes. The child leads its own process group and gets SIGKILL when its
//            supervisor dies (PR_SET_PDEATHSIG). This process becomes a subreaper as well, for the case that
//            a supervisor is killed: then it ends all its children that are no supervisors. So a program that
//            uses ChildProcess on Linux starts all its children through it.
//   Windows  A job object with KILL_ON_JOB_CLOSE, in which the child is born.
//
// Why it is done so, and what was tried: docs/decisions/0005-process-tree.md.
//
//   Spawning --> Started --stop()--> Stopping --kill()--> Killing --> Ended --> Gone
//      |            |_________________kill()_________________^           ^
//      `-> Error    `____________________________________________________| from any state but Spawning
//
// Ended: the child itself has ended. Gone: so has its tree, and all output was delivered. The states of a
// rank, with their checked table, are in agents/node/rank_state.h.
//
// Ownership: the io_context must outlive the ChildProcess. Threads: all calls from the one thread that runs
// the io_context; the callbacks come on it too, from within io_context::run() and never from inside a call of
// this class. A callback may destroy the ChildProcess. Nothing blocks except wait_until_started() (for the
// time that the system needs to start a program) and the destructor.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agents/process/exit_status.h"
#include "comm/base/clock.h"
#include "comm/base/environment.h"

namespace boost::asio {
class io_context;
}

namespace deepscale {

// The folder of the cgroup (version 2) that holds all children of this io_context and what they start; empty
// where none may be made, and on Windows. It exists from the first child to the end of the io_context.
std::string job_cgroup(boost::asio::io_context& io);

enum class OutputStream { kOut, kErr };

// What can be asked of a process. Windows knows one way to ask (CTRL_BREAK), and that only with a console.
enum class StopSignal { kTerminate, kInterrupt, kHangup, kUser1, kUser2 };

class ChildProcess {
 public:
  enum class Stdin { kNull, kInherit };

  struct Options {
    std::string program;                 // a path, or a name that is looked up in the PATH of `environment`
    std::vector<std::string> arguments;  // without the program itself
    Environment environment;             // all of it: nothing is inherited besides
    std::string working_directory;       // empty: ours; a relative program path counts from there
    Stdin standard_input = Stdin::kNull;
    std::vector<int> cpus;  // the cores it may run on; empty: those that we may run on
    // How long the rest of the tree may live on, and hold the pipes, after the child itself has ended.
    Clock::duration drain_time = std::chrono::milliseconds(500);
  };

  // Each is called exactly once and in this order, except on_output, which comes any number of times before
  // on_gone. An unset callback is skipped.
  struct Callbacks {
    // Bytes as they come, in order within a stream. The view is valid during the call only.
    std::function<void(OutputStream, std::string_view)> on_output;
    // The child itself has ended; its tree and its output may still be there, for at most drain_time.
    std::function<void(const ExitStatus&)> on_ended;
    // Its whole tree is gone and its output was delivered.
    std::function<void()> on_gone;
  };

  // Begins to start it. Error as wait_until_started(), for what is known at once.
  ChildProcess(boost::asio::io_context& io, Options options, Callbacks callbacks);

  // Blocks until the program runs; call it once, before io_context::run(). It is apart from the constructor
  // so that many children start at the same time. Error(kNotFound) when there is no such program or
  // directory, Error(kSystem) when the system refuses to execute it, each with the system's text; then
  // nothing is left over and no callback comes.
  void wait_until_started();

  // Before on_gone: kills the tree and waits for its end, at most 2 s. No callback comes any more.
  ~ChildProcess();

  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  std::int64_t pid() const;  // once it was started

  // Asks it to end: sends the signal to its process group, and wakes it when it is stopped. False when this
  // system has no way to ask, so that waiting for an answer is pointless. Nothing on a child that has ended.
  bool stop(StopSignal signal = StopSignal::kTerminate);

  // Whether the child has a handler of its own for it. Windows does not tell: false.
  bool handles(StopSignal signal) const;

  // Asks the child to print its stacks to stderr, where it has a handler for that: SIGQUIT on Linux, which
  // agents/link, Python's faulthandler and the JVM use so. Wakes it when it is stopped. False, and nothing is
  // sent, where it has none, and on Windows.
  bool request_stacks();

  // Something has stopped it (SIGSTOP, a debugger). False where the system does not tell.
  bool is_suspended() const;

  // Ends the whole tree, now, also what lives on after the child's end. Idempotent. Lets output flow again,
  // so that on_gone comes within bounds; a tree that the system cannot kill within 5 s counts as lost.
  void kill();

  // Back-pressure: while paused no output is read, so the child blocks once its pipe is full, and on_gone
  // waits for the output that is left. Idempotent.
  void pause_output();
  void resume_output();

 private:
  class Implementation;  // one per platform
  std::shared_ptr<Implementation> implementation_;
};

}  // namespace deepscale
