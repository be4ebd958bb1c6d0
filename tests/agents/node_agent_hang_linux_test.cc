// What only Linux has: ranks stopped by a signal, or spinning with their links alive; supervisors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/types.h>

#include <atomic>
#include <thread>

#include "agents/node/node_agent.h"
#include "tests/agents/node_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

NodeAgentOptions with_limit(Clock::duration limit) {
  NodeAgentOptions options;
  options.heartbeat_timeout = limit;
  return options;
}

// The others hang behind it, as they wait for it.
TEST(NodeAgentHang, AStoppedProcessIsToBlameThoughItIsAhead) {
  const TemporaryFolder folder;
  const std::string wait = "wait-for=" + (folder.path() / "go").string();
  NodeRun run({{"join", "out=ready\n", wait, "heartbeat=1", "hang"},
               {"join", "out=ready\n", wait, "heartbeat=2", "report-peer-lost=it has arrived",
                "stop-yourself", "hang"}},
              with_limit(std::chrono::milliseconds(1500)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  folder.write("go", "");
  ASSERT_TRUE(run.finish());
  ASSERT_TRUE(run.result->hang);
  EXPECT_EQ(run.result->first_cause, 1U);
  EXPECT_THAT(run.result->hang->text(), HasSubstr("its process is stopped"));
  // The request for its stacks has woken it.
  EXPECT_THAT(run.lines, Contains(HasSubstr("11 err: deepscale: stack of thread")));
}

TEST(NodeAgentHang, TheStackOfASpinningRankNamesItsThreads) {
  NodeRun run({{"join", "heartbeat=1", "spin"}}, with_limit(std::chrono::milliseconds(300)));
  run.agent->start();
  ASSERT_TRUE(run.finish());
  ASSERT_TRUE(run.result->hang);
  // The main thread, which has the program's name, and that of the link.
  EXPECT_THAT(run.lines, Contains(HasSubstr("(test_child):")).Times(::testing::Ge(2)));
  EXPECT_THAT(run.lines, Contains(HasSubstr("test_child(")));
}

// Its handler, or its processor, is slow.
TEST(NodeAgentHang, ARankMayTakeItsTimeForItsStacks) {
  boost::asio::io_context io;
  auto slow = child_options({"-c", "trap 'sleep 2; echo its stack >&2' QUIT; while :; do sleep 0.01; done"});
  slow.program = "sh";
  NodeRun listener(std::vector<std::vector<std::string>>(2));
  NodeAgent agent(io, {{10, 0, child_options({"join", "heartbeat=1", "hang"})}, {11, 1, slow}}, listener,
                  with_limit(std::chrono::milliseconds(300)));
  agent.start();
  ASSERT_TRUE(run_until(io, [&] { return listener.result.has_value(); }));
  EXPECT_TRUE(listener.result->hang);
  EXPECT_THAT(listener.lines, Contains("11 err: its stack"));
}

// An agent that stood still itself finds heartbeats waiting; it must read them before it blames anybody.
TEST(NodeAgentHang, NobodyIsBlamedForTheAgentsOwnStandstill) {
  NodeRun run({{"join", "out=ready\n", "beat=4000"}}, with_limit(std::chrono::milliseconds(1500)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  ASSERT_TRUE(run_until(run.io, [&] { return run.states[0].back() == RankState::kRunning; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(2500));  // the standstill: nobody runs the loop
  ASSERT_TRUE(run.finish());
  EXPECT_FALSE(run.result->hang);
  EXPECT_TRUE(run.result->is_success());
}

// The whole node stood still, in the middle of a step that takes its time after that too.
TEST(NodeAgentHang, AStandstillOfTheNodeIsNoPartOfAStep) {
  NodeRun run({{"join", "heartbeat=1", "out=ready\n", "sleep=3500", "heartbeat=2", "exit=0"}},
              with_limit(std::chrono::milliseconds(1500)));
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  ASSERT_TRUE(run_until(run.io, [&] { return run.states[0].back() == RankState::kRunning; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(3000));  // the standstill, of the agent at least
  ASSERT_TRUE(run.finish());
  EXPECT_FALSE(run.result->hang);
  EXPECT_TRUE(run.result->is_success());
}

// A signal that the rank handles is sent besides.
TEST(NodeAgentHang, AHandlerOfTheSignalHearsOfTheStop) {
  NodeRun run({{"join", "exit-at-stop=7", "out=ready\n", "wait-for-stop", "hang"}});
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  run.agent->request_stop(StopSignal::kTerminate);
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status(0).code, 7);
}

// One processor runs this alone, and a process that was moved to it gets next to nothing.
class BusyProcessor {
 public:
  explicit BusyProcessor(pid_t slowed) {
    cpu_set_t processors;
    ::sched_getaffinity(0, sizeof processors, &processors);
    std::size_t first = 0;
    while (!CPU_ISSET(first, &processors)) ++first;
    CPU_ZERO(&processors);
    CPU_SET(first, &processors);
    const sched_param priority = {};
    ::sched_setaffinity(slowed, sizeof processors, &processors);
    ::sched_setscheduler(slowed, SCHED_IDLE, &priority);
    thread_ = std::thread([this, processors] {
      ::sched_setaffinity(0, sizeof processors, &processors);
      while (!is_done_) {
      }
    });
  }
  ~BusyProcessor() {
    is_done_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> is_done_ = false;
  std::thread thread_;
};

// The supervisor sends the signal. It comes to it when the rank has left at its link's word.
TEST(NodeAgentLink, WhoLeavesBeforeTheSignalIsNoCause) {
  const TemporaryFolder folder;
  const std::string wait = "wait-for=" + (folder.path() / "go").string();
  NodeRun run({{"ignore-stop", "join", "out=ready\n", wait, "wait-for-stop", "exit=3"}});
  run.agent->start();
  ASSERT_TRUE(run.wait_until_ready());
  {
    const BusyProcessor processor(static_cast<pid_t>(parent_of(run.pids[0])));
    folder.write("go", "");
    run.agent->request_stop(StopSignal::kTerminate);
    ASSERT_TRUE(wait_until([&] { return !is_alive(run.pids[0]); }));
  }
  ASSERT_TRUE(run.finish());
  EXPECT_FALSE(run.result->first_cause);
  EXPECT_EQ(run.status(0).text(), "exit code 3, after we stopped it");
}

}  // namespace
}  // namespace deepscale::testing
