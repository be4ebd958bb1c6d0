#include "launcher/job/rank_environment.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "comm/base/error.h"
#include "launcher/job/file_path.h"

namespace deepscale {
namespace {

// rank_variables() sets these; CUDA_VISIBLE_DEVICES too, but that one is first of all the user's wish.
constexpr std::array kOurNames = {
    "RANK",        "WORLD_SIZE",  "LOCAL_RANK",       "LOCAL_WORLD_SIZE",     "LOCAL_SIZE",
    "GROUP_RANK",  "NODE_RANK",   "CROSS_RANK",       "GROUP_WORLD_SIZE",     "CROSS_SIZE",
    "MASTER_ADDR", "MASTER_PORT", "DEEPSCALE_JOB_ID", "DEEPSCALE_GENERATION", "DEEPSCALE_AGENT"};

// Set by another launcher for this process alone: inherited, they would tell every rank that it is the same
// one.
constexpr std::array kForeignNames = {"MPI_LOCALRANKID", "MPI_LOCALNRANKS", "SLURM_PROCID",
                                      "SLURM_LOCALID",   "SLURM_NODEID",    "SLURM_STEP_ID"};
constexpr std::array kForeignPrefixes = {"OMPI_COMM_WORLD_", "PMIX_", "PMI_", "TORCHELASTIC_"};

bool is_ours(const std::string& name) {
  return std::find(kOurNames.begin(), kOurNames.end(), name) != kOurNames.end();
}

bool is_foreign(const std::string& name) {
  const auto is_prefix = [&](const char* prefix) { return name.rfind(prefix, 0) == 0; };
  return std::any_of(kForeignPrefixes.begin(), kForeignPrefixes.end(), is_prefix) ||
         std::find(kForeignNames.begin(), kForeignNames.end(), name) != kForeignNames.end();
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
  return text;
}

// What the user may have chosen already.
Environment rank_defaults(const JobPlan& plan, RankPlace place) {
  Environment defaults;
  const int bound = static_cast<int>(rank_cores(plan, place).size());
  const int share = bound > 0 ? bound : plan.cores_per_node / plan.local_size(place);
  defaults.set("OMP_NUM_THREADS", std::to_string(std::max(1, share)));
  defaults.set("PYTHONUNBUFFERED", "1");
  if (!plan.loopback_interface.empty()) {
    defaults.set("GLOO_SOCKET_IFNAME", plan.loopback_interface);
    defaults.set("NCCL_SOCKET_IFNAME", plan.loopback_interface);
  }
  return defaults;
}

}  // namespace

Environment job_environment(const Environment& own,
                            const std::vector<std::pair<std::string, std::string>>& additions) {
  Environment job;
  for (const auto& [name, value] : own.variables()) {
    if (!is_foreign(name) && !is_ours(name)) job.set(name, value);
  }
  for (const auto& [name, value] : additions) {
    if (is_ours(name)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("--env {}: the launcher itself sets this variable for every rank; leave it out "
                              "(--master_addr, --master_port and --num_gpus change what it says).",
                              name));
    }
    job.set(name, value);
  }
  return job;
}

Environment rank_variables(const JobPlan& plan, RankPlace place, const Rendezvous& rendezvous) {
  Environment variables;
  const auto set = [&](const char* name, int value) { variables.set(name, std::to_string(value)); };
  const int node_count = static_cast<int>(plan.nodes.size());
  set("RANK", plan.rank_at(place));
  set("WORLD_SIZE", plan.world_size);
  set("LOCAL_RANK", place.local_rank);
  set("LOCAL_WORLD_SIZE", plan.local_size(place));
  set("LOCAL_SIZE", plan.local_size(place));
  for (const char* name : {"GROUP_RANK", "NODE_RANK", "CROSS_RANK"}) set(name, place.node);
  for (const char* name : {"GROUP_WORLD_SIZE", "CROSS_SIZE"}) set(name, node_count);
  variables.set("MASTER_ADDR", rendezvous.address);
  set("MASTER_PORT", rendezvous.port);
  variables.set("DEEPSCALE_JOB_ID", rendezvous.job_id);
  set("DEEPSCALE_GENERATION", rendezvous.generation);
  // torch.distributed's env:// then joins the launcher's store as a client, rank 0 included.
  variables.set("TORCHELASTIC_USE_AGENT_STORE", "True");
  variables.set("TORCHELASTIC_RUN_ID", rendezvous.job_id);
  set("TORCHELASTIC_RESTART_COUNT", rendezvous.generation);
  set("TORCHELASTIC_MAX_RESTARTS", plan.max_restarts);
  const NodePlan& node = plan.nodes[static_cast<std::size_t>(place.node)];
  // All devices of the node, as torch programs expect that pick theirs by LOCAL_RANK.
  if (!node.devices.empty()) variables.set("CUDA_VISIBLE_DEVICES", joined(node.devices));
  return variables;
}

Environment rank_environment(const Environment& job, const JobPlan& plan, RankPlace place,
                             const Rendezvous& rendezvous) {
  Environment environment = job;
  const Environment defaults = rank_defaults(plan, place);
  const Environment variables = rank_variables(plan, place, rendezvous);
  for (const auto& [name, value] : defaults.variables()) environment.set_if_absent(name, value);
  for (const auto& [name, value] : variables.variables()) environment.set(name, value);
  return environment;
}

std::pair<std::string, std::string> parse_variable(std::string_view text, const std::string& where) {
  const auto equals = text.find('=');
  if (equals == 0 || equals == std::string_view::npos || text.find('\0') != std::string_view::npos) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: \"{}\" is not NAME=VALUE.", where, text));
  }
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

std::vector<std::pair<std::string, std::string>> read_environment_file(const std::string& path) {
  std::ifstream file(to_path(path), std::ios::binary);
  std::vector<std::pair<std::string, std::string>> variables;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos || line.front() == '#') continue;
    variables.push_back(parse_variable(line, fmt::format("--env_file {}:{}", path, number)));
  }
  if (!file.eof()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--env_file {} cannot be read; check the path.", path));
  }
  return variables;
}

}  // namespace deepscale
