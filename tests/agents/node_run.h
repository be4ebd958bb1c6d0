// Runs one NodeAgent and keeps what its listener hears.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "agents/node/node_agent.h"
#include "tests/agents/child_run.h"

namespace deepscale::testing {

class NodeRun final : public NodeListener {
 public:
  // One rank for each list of actions; their global ranks begin at 10, to tell them from the local ones.
  explicit NodeRun(std::vector<std::vector<std::string>> actions, NodeAgentOptions options = {});

  bool finish(Clock::duration wait = kSoon);
  // Until each rank has printed a line "ready".
  bool wait_until_ready();
  const ExitStatus& status(std::size_t index) const { return result->ranks.at(index).status; }

  void on_output(const OutputLine& line) override;
  void on_event(const RankEvent& event) override;
  void on_hang(const RankResult& to_blame, const Hang& hang, const std::vector<int>& unable) override;
  void on_finished(const NodeResult& how) override;

  boost::asio::io_context io;
  std::vector<std::string> lines;              // "RANK out|err: text", pieces joined
  std::vector<std::vector<RankState>> states;  // by local rank
  std::vector<RankState> story;                // of all ranks, in the order of the events
  std::vector<std::int64_t> pids;              // by local rank
  std::optional<NodeResult> result;
  int finished_calls = 0;
  int hangs = 0;
  std::vector<int> without_stacks;
  std::optional<NodeAgent> agent;
};

}  // namespace deepscale::testing
