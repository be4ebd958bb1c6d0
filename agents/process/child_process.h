// One child process and everything that it starts.
//
// From its first instruction the child is inside a kill scope that holds its whole tree, grandchildren and
// those that detached themselves (setsid, double fork) included. The scope ends with the child, with kill(),
// with the destructor, and with the death of this process, however it dies: whoever is killed with -9,
// nothing of the tree remains.
//
//   Linux    A supervisor process, forked from this one, stands between us and the child. It is the subreaper
//   of the
//            tree, so whatever loses its parent becomes the supervisor's own child: to end the tree it kills
//            its children until it has none. It is no part of our session or process group; it watches a
//            socket to us and ends the tree when the socket closes. The child leads its own process group and
//            gets SIGKILL when its supervisor dies (PR_SET_PDEATHSIG). We are a subreaper too, for the case
//            that a supervisor is killed.
//   Windows  A job object with KILL_ON_JOB_CLOSE, entered while the child is still suspended.
//   Why not Boost.Process on Linux: docs/decisions/0003-process-tree.md.
//
//   Spawning --> Started --> Stopping --> Killing --> Exited | Lost       (agents/node/rank_state.h has the
//   whole picture
//       \-> SpawnFailed         \____________/^                            and the checked table)
//
// Ownership: the io_context must outlive the ChildProcess. Threads: all calls from the one thread that runs
// the io_context; the callbacks are called there too, from within io_context::run() and never from inside a
// call of this class. A callback may destroy the ChildProcess. Nothing blocks except the constructor (the
// time the system needs to start a program) and the destructor (see there).
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

enum class OutputStream { kOut, kErr };

// What can be asked of a process. Windows knows only one way to ask (CTRL_BREAK), and only with a console.
enum class StopSignal { kTerminate, kInterrupt, kHangup, kUser1, kUser2 };

class ChildProcess {
 public:
  enum class Stdin { kNull, kInherit };

  struct Options {
    std::string program;                 // a path, or a name that is looked up in the PATH of `environment`
    std::vector<std::string> arguments;  // without the program itself
    Environment environment;             // all of it: nothing is inherited besides
    std::string working_directory;       // empty: ours
    Stdin standard_input = Stdin::kNull;
    std::vector<int> cpus;  // the cores it may run on; empty: all of ours
    // How long the rest of the tree may live on, and hold the pipes, after the child itself has ended.
    Clock::duration drain_time = std::chrono::milliseconds(500);
  };

  struct Callbacks {
    // Bytes as they come, in order within a stream. The view is valid during the call only.
    std::function<void(OutputStream, std::string_view)> on_output;
    // Exactly once, last of all: the child has ended, its whole tree is gone and its output was delivered.
    std::function<void(const ExitStatus&)> on_exit;
  };

  // Starts it. Error(kNotFound) when there is no such program or directory, Error(kSystem) when the system
  // refuses to execute it, each with the system's text; nothing is left over then and no callback is called.
  ChildProcess(boost::asio::io_context& io, Options options, Callbacks callbacks);

  // Before on_exit: kills the tree and waits until it is gone, at most 2 s; no callback is called any more.
  ~ChildProcess();

  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  std::int64_t pid() const;
  bool has_ended() const;  // on_exit was called, or is about to be

  // Asks it to end: sends the signal to its process group, and wakes it when it is stopped. False when there
  // is no way to ask on this system, so that waiting for an answer is pointless. No effect on a child that
  // has ended.
  bool stop(StopSignal signal = StopSignal::kTerminate);

  // Ends the whole tree, now. No effect when it has ended. Lets output flow again, so that on_exit comes
  // within bounds.
  void kill();

  // Back-pressure: while paused no output is read, so the child blocks once its pipe is full, and on_exit
  // waits for the output that is left. Idempotent.
  void pause_output();
  void resume_output();

 private:
  class Implementation;  // one per platform
  std::shared_ptr<Implementation> implementation_;
};

}  // namespace deepscale
