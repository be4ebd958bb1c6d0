#include "launcher/job/plan_text.h"

#include <fmt/core.h>

namespace deepscale {
namespace {

std::string quoted(const std::string& word) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string result = "'";
  for (char c : word) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::string node_line(std::size_t index, const NodePlan& node) {
  const NodePlacement& placement = node.placement;
  const int last = placement.first_rank + placement.rank_count() - 1;
  const std::string ranks = placement.rank_count() == 1
                                ? fmt::format("rank {}", last)
                                : fmt::format("ranks {}-{}", placement.first_rank, last);
  std::string devices;
  for (const std::string& device : node.devices) devices += (devices.empty() ? "" : ",") + device;
  return fmt::format("  node {}: {}, {}, {}\n", index, placement.host, ranks,
                     devices.empty() ? "on the CPU" : "GPU " + devices);
}

// Which logical processors each rank of the first node is bound to.
std::string binding_text(const JobPlan& plan) {
  std::string text = plan.bound_cores.empty() ? "" : "processors:\n";
  for (RankPlace place; !plan.bound_cores.empty() && place.local_rank < plan.local_size(place);
       ++place.local_rank) {
    text += fmt::format("  rank {}: {}\n", plan.rank_at(place), ranges_text(rank_processors(plan, place)));
  }
  return text;
}

}  // namespace

std::string count_text(std::size_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string ranges_text(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    const int last = numbers[end - 1];
    text += fmt::format("{}{}", text.empty() ? "" : ",", numbers[i]);
    if (last > numbers[i]) text += fmt::format("-{}", last);
    i = end;
  }
  return text;
}

std::string command_text(const std::string& program, const std::vector<std::string>& arguments) {
  std::string text = quoted(program);
  for (const std::string& argument : arguments) text.append(" ").append(quoted(argument));
  return text;
}

std::string describe(const JobPlan& plan, const Environment& job, const Rendezvous& rendezvous) {
  std::string text =
      fmt::format("job: {} on {}\n", count_text(static_cast<std::size_t>(plan.world_size), "rank"),
                  count_text(plan.nodes.size(), "node"));
  for (std::size_t i = 0; i < plan.nodes.size(); ++i) text += node_line(i, plan.nodes[i]);

  text += binding_text(plan);
  const RankPlace first;
  text += fmt::format("command of rank 0:\n  {}\n",
                      command_text(plan.program.executable, rank_arguments(plan, first)));
  text += "environment of rank 0, where it differs from this one:\n";
  const Environment of_rank = rank_environment(job, plan, first, rendezvous);
  for (const auto& [name, value] : of_rank.variables()) {
    const bool is_open = name == "MASTER_PORT" && rendezvous.port == 0;
    if (job.get(name) != value)
      text += fmt::format("  {}={}\n", name, is_open ? "(a free one, chosen at the start)" : quoted(value));
  }
  return text;
}

}  // namespace deepscale
