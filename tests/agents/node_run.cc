#include "tests/agents/node_run.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace deepscale::testing {

NodeRun::NodeRun(std::vector<std::vector<std::string>> actions, NodeAgentOptions options)
    : states(actions.size()), pids(actions.size()) {
  std::vector<RankCommand> commands;
  for (auto& rank_actions : actions) {
    const int local_rank = static_cast<int>(commands.size());
    commands.push_back({10 + local_rank, local_rank, child_options(std::move(rank_actions))});
  }
  agent.emplace(io, std::move(commands), *this, options);
}

bool NodeRun::finish(Clock::duration wait) {
  return run_until(
      io, [this] { return result.has_value(); }, wait);
}

bool NodeRun::wait_until_ready() {
  return run_until(io, [this] {
    const auto is_ready = [](const std::string& line) { return line.find(": ready") != std::string::npos; };
    return static_cast<std::size_t>(std::count_if(lines.begin(), lines.end(), is_ready)) == states.size();
  });
}

void NodeRun::on_output(const OutputLine& line) {
  if (line.is_start) {
    lines.push_back(fmt::format("{} {}: ", line.rank, line.stream == OutputStream::kOut ? "out" : "err"));
  }
  lines.back() += line.text;
}

void NodeRun::on_event(const RankEvent& event) {
  const auto index = static_cast<std::size_t>(event.local_rank);
  states.at(index).push_back(event.state);
  story.push_back(event.state);
  pids.at(index) = event.pid;
}

void NodeRun::on_hang(const RankResult&, const Hang&, const std::vector<int>& unable) {
  ++hangs;
  without_stacks = unable;
}

void NodeRun::on_finished(const NodeResult& how) {
  result = how;
  ++finished_calls;
}

}  // namespace deepscale::testing
