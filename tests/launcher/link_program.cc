// A rank that trains, as far as its agent can see: it sends a heartbeat for each step of a millisecond,
// leaves with 0 when it is asked to stop, and does at a step what its arguments say.
//
//   steps=N (1000)  meet=FOLDER (begin together)  base=N (the first step, times the generation)
//   [RANK:]ACTION@STEP
//
// ACTION: spin  hang  stop (SIGSTOP, Linux)  exit=N  exit-by-generation  report=TEXT
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "agents/link/rank_link.h"

namespace {

struct Event {
  std::string action;
  long step = 0;
};

struct Plan {
  long steps = 1000;
  long base = 0;
  std::string meeting_place;
  std::vector<Event> events;  // of this rank
};

long number(const std::string& name, const deepscale::Environment& environment) {
  return static_cast<long>(environment.get_integer(name).value_or(0));
}

Plan read_plan(const std::vector<std::string>& words, const deepscale::Environment& environment) {
  Plan plan;
  for (std::string word : words) {
    if (word.rfind("steps=", 0) == 0) plan.steps = std::stol(word.substr(6));
    if (word.rfind("base=", 0) == 0)
      plan.base = std::stol(word.substr(5)) * number("DEEPSCALE_GENERATION", environment);
    if (word.rfind("meet=", 0) == 0) plan.meeting_place = word.substr(5);
    const auto at = word.find('@');
    if (at == std::string::npos) continue;
    const auto colon = word.find(':');
    if (colon < at && std::stol(word) != number("RANK", environment)) continue;
    const auto begin = colon < at ? colon + 1 : 0;
    plan.events.push_back({word.substr(begin, at - begin), std::stol(word.substr(at + 1))});
  }
  return plan;
}

// Until all ranks have come to the folder.
void meet(const std::filesystem::path& folder, const deepscale::Environment& environment) {
  std::ofstream(folder / environment.get_or("RANK", "0")).put('\n');
  for (long rank = 0; rank < number("WORLD_SIZE", environment); ++rank) {
    while (!std::filesystem::exists(folder / std::to_string(rank)))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// Returns when the agent knows that this rank asks for requests to stop: a report is acknowledged, after all
// that was said before it, and the heartbeat takes it back.
void tell_that_it_asks(deepscale::RankLink& link, long step) {
  link.stop_requested();
  link.report_failure(deepscale::RankFailure::kException, "none");
  link.heartbeat(step);
}

void spin() {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (std::chrono::steady_clock::now() < end) {
  }
  std::_Exit(97);
}

void act(const std::string& action, deepscale::RankLink& link, const deepscale::Environment& environment) {
  if (action == "spin") spin();
  if (action == "hang") {
    std::puts("hangs");
    std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::seconds(120));
  }
  if (action == "stop") std::raise(19);  // SIGSTOP, which Windows does not have
  if (action.rfind("exit=", 0) == 0) std::exit(std::atoi(action.c_str() + 5));
  if (action == "exit-by-generation") {
    link.report_failure(deepscale::RankFailure::kException, "by generation");  // so its heartbeat has arrived
    std::exit(static_cast<int>(number("DEEPSCALE_GENERATION", environment)) + 1);
  }
  if (action.rfind("report=", 0) == 0) {
    link.report_failure(deepscale::RankFailure::kException, action.substr(7));
    std::exit(1);
  }
}

}  // namespace

int main(int count, char** words) {
  const auto environment = deepscale::Environment::of_process();
  const Plan plan = read_plan({words + 1, words + count}, environment);
  deepscale::RankLink link = deepscale::RankLink::from_environment(environment);
  if (!plan.meeting_place.empty()) meet(plan.meeting_place, environment);
  for (long step = plan.base + 1; step <= plan.base + plan.steps; ++step) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    link.heartbeat(step);
    if (step == plan.base + 1) {
      if (plan.events.empty()) tell_that_it_asks(link, step);
      std::puts("trains");
      std::fflush(stdout);
    }
    for (const Event& event : plan.events) {
      if (plan.base + event.step == step) act(event.action, link, environment);
    }
    if (link.stop_requested()) {
      std::printf("saved after %ld steps\n", step);
      return 0;
    }
  }
  return 0;
}
