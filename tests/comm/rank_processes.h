// The ranks of a job as processes (test_rank), with a store of their own, so that they can be killed.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "comm/store/store_server.h"
#include "tests/agents/child_run.h"

namespace deepscale::testing {

class RankProcesses {
 public:
  // `hosts` of them, as the ranks believe, with as many ranks each.
  RankProcesses(const std::string& program, int rank_count, int hosts,
                const std::vector<std::string>& arguments) {
    const int per_host = rank_count / hosts;
    for (int rank = 0; rank < rank_count; ++rank) {
      Environment environment = Environment::of_process();
      environment.set("RANK", std::to_string(rank));
      environment.set("WORLD_SIZE", std::to_string(rank_count));
      environment.set("LOCAL_RANK", std::to_string(rank % per_host));
      environment.set("LOCAL_WORLD_SIZE", std::to_string(per_host));
      environment.set("MASTER_ADDR", "127.0.0.1");
      environment.set("MASTER_PORT", std::to_string(server_.port()));
      environment.set("TORCHELASTIC_USE_AGENT_STORE", "True");
      ranks_.push_back(std::make_unique<ChildRun>(
          ChildProcess::Options{.program = program, .arguments = arguments, .environment = environment}));
    }
  }
  int size() const { return static_cast<int>(ranks_.size()); }
  ChildRun& operator[](int rank) { return *ranks_[static_cast<std::size_t>(rank)]; }
  bool are_running() {
    bool all = true;
    for (auto& rank : ranks_) all = all && rank->wait_for_output("running");
    return all;
  }
  // What all of them printed.
  std::string output() const {
    std::string text;
    for (const auto& rank : ranks_) text += rank->out + rank->error;
    return text;
  }

 private:
  HostedStoreServer server_{StoreServerOptions{}};
  std::vector<std::unique_ptr<ChildRun>> ranks_;
};

inline int segments_in_dev_shm() {
  int count = 0;
  std::error_code ignored;
  for (const auto& file : std::filesystem::directory_iterator("/dev/shm", ignored)) {
    if (file.path().filename().string().find("deepscale") != std::string::npos) ++count;
  }
  return count;
}

}  // namespace deepscale::testing
