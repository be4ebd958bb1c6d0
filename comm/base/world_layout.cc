#include "comm/base/world_layout.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "comm/base/error.h"

namespace deepscale {

namespace {

// The variables under which one launcher tells a rank its place; nullptr where it tells nothing.
struct Names {
  StartedBy who;
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_world_size;
  const char* node_rank;
  const char* node_count;
};

constexpr Names kEnvironmentNames{StartedBy::kEnvironment, "RANK",       "WORLD_SIZE",      "LOCAL_RANK",
                                  "LOCAL_WORLD_SIZE",      "GROUP_RANK", "GROUP_WORLD_SIZE"};
constexpr Names kOpenMpiNames{StartedBy::kOpenMpi,
                              "OMPI_COMM_WORLD_RANK",
                              "OMPI_COMM_WORLD_SIZE",
                              "OMPI_COMM_WORLD_LOCAL_RANK",
                              "OMPI_COMM_WORLD_LOCAL_SIZE",
                              nullptr,
                              nullptr};
constexpr Names kPmiNames{StartedBy::kPmi,   "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID",
                          "MPI_LOCALNRANKS", nullptr,    nullptr};
constexpr Names kSlurmNames{StartedBy::kSlurm, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID",
                            nullptr,           "SLURM_NODEID", "SLURM_NNODES"};

constexpr int kLargestInt = std::numeric_limits<int>::max();
constexpr int kLargestPort = 65535;

int read(const Environment& environment, const char* name, int fallback, int largest = kLargestInt) {
  if (name == nullptr) return fallback;
  const std::int64_t value = environment.get_integer(name).value_or(fallback);
  if (value >= 0 && value <= largest) return static_cast<int>(value);
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("environment variable {}={} is not within 0 to {}; unset it or correct it", name,
                          value, largest));
}

std::optional<int> positive_number(std::string_view text) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size() || value < 1) return std::nullopt;
  return value;
}

// Slurm's list of the ranks of each node, "8(x2),4": 8 on nodes 0 and 1, 4 on node 2. Nothing where it does
// not tell of `node`.
std::optional<int> tasks_of_node(std::string_view list, int node) {
  while (!list.empty()) {
    const std::string_view entry = list.substr(0, list.find(','));
    list.remove_prefix(std::min(entry.size() + 1, list.size()));
    const std::size_t parenthesis = entry.find("(x");
    const auto tasks = positive_number(entry.substr(0, parenthesis));
    std::optional<int> nodes = 1;
    if (parenthesis != entry.npos) {
      const std::string_view repeat = entry.substr(parenthesis + 2);
      nodes = repeat.empty() || repeat.back() != ')' ? std::nullopt
                                                     : positive_number(repeat.substr(0, repeat.size() - 1));
    }
    if (!tasks || !nodes) return std::nullopt;
    if (node < *nodes) return tasks;
    node -= *nodes;
  }
  return std::nullopt;
}

// Slurm has no variable for it.
int local_world_size_of_slurm(const Environment& environment, const WorldLayout& layout) {
  constexpr const char* kList = "SLURM_STEP_TASKS_PER_NODE";
  const int node = read(environment, kSlurmNames.node_rank, 0);
  if (const std::string list = environment.get_or(kList, ""); !list.empty()) {
    if (const auto tasks = tasks_of_node(list, node)) return *tasks;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("environment variable {}='{}' does not tell the tasks of node {}, as \"8(x2),4\" "
                            "does for three nodes; unset it or correct it",
                            kList, list, node));
  }
  const int nodes = std::max(1, read(environment, kSlurmNames.node_count, 1));
  return std::max((layout.world_size - 1) / nodes + 1,
                  std::min(layout.local_rank, layout.world_size - 1) + 1);
}

void require_inside(const char* name, int value, const char* size_name, int size) {
  if (size >= 1 && value >= 0 && value < size) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("the environment says {}={} and {}={}; a rank counts from 0 and is smaller than its size",
                  name, value, size_name, size));
}

const Names* find_names(const Environment& environment) {
  if (environment.has("RANK") || environment.has("WORLD_SIZE")) return &kEnvironmentNames;
  if (environment.has(kOpenMpiNames.rank)) return &kOpenMpiNames;
  if (environment.has(kPmiNames.rank)) return &kPmiNames;
  // An sbatch script itself has SLURM_PROCID=0 and all tasks to count; only a step (srun) starts ranks.
  if (environment.has("SLURM_STEP_ID") && environment.has(kSlurmNames.rank)) return &kSlurmNames;
  return nullptr;
}

}  // namespace

const char* started_by_name(StartedBy who) {
  switch (who) {
    case StartedBy::kNobody:
      return "no launcher";
    case StartedBy::kDeepScale:
      return "deepscale";
    case StartedBy::kEnvironment:
      return "RANK and WORLD_SIZE";
    case StartedBy::kOpenMpi:
      return "Open MPI";
    case StartedBy::kPmi:
      return "PMI";
    case StartedBy::kSlurm:
      return "Slurm";
  }
  return "unknown";
}

WorldLayout WorldLayout::from_environment(const Environment& environment) {
  WorldLayout layout;
  layout.master_addr = environment.get_or("MASTER_ADDR", "");
  layout.master_port = read(environment, "MASTER_PORT", 0, kLargestPort);
  layout.job_id = environment.get_or("DEEPSCALE_JOB_ID", "");
  const bool has_generation = environment.has("DEEPSCALE_GENERATION");
  layout.generation =
      read(environment, has_generation ? "DEEPSCALE_GENERATION" : "TORCHELASTIC_RESTART_COUNT", 0);
  layout.launcher_serves_store = environment.get_or("TORCHELASTIC_USE_AGENT_STORE", "") == "True";

  const Names* names = find_names(environment);
  if (names == nullptr) return layout;
  layout.started_by = names->who;
  if (names->who == StartedBy::kEnvironment && environment.has("DEEPSCALE_JOB_ID")) {
    layout.started_by = StartedBy::kDeepScale;
  }
  if (!environment.has(names->rank) || !environment.has(names->world_size)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the environment has only one of {} and {}; set both or neither", names->rank,
                            names->world_size));
  }
  layout.rank = read(environment, names->rank, 0);
  layout.world_size = read(environment, names->world_size, 1);
  require_inside(names->rank, layout.rank, names->world_size, layout.world_size);

  // Who tells nothing about nodes is taken to run on one.
  layout.local_rank = read(environment, names->local_rank, layout.rank);
  layout.local_world_size = names->who == StartedBy::kSlurm
                                ? local_world_size_of_slurm(environment, layout)
                                : read(environment, names->local_world_size, layout.world_size);
  require_inside("local rank", layout.local_rank, "local world size", layout.local_world_size);
  layout.node_rank = read(environment, names->node_rank, layout.rank / layout.local_world_size);
  const int nodes = (layout.world_size + layout.local_world_size - 1) / layout.local_world_size;
  layout.node_count = read(environment, names->node_count, std::max(nodes, layout.node_rank + 1));
  require_inside("node rank", layout.node_rank, "node count", layout.node_count);
  return layout;
}

}  // namespace deepscale
