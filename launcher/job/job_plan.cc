#include "launcher/job/job_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>

#include "comm/base/error.h"

namespace deepscale {
namespace {

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

std::vector<Host> hosts_to_use(const PlanInputs& inputs, const std::vector<std::string>& gpus) {
  const JobSpec& spec = inputs.spec;
  if ((!spec.include.empty() || !spec.exclude.empty()) && (spec.node_count || spec.ranks_per_node)) {
    fail(
        "--include and --exclude name the places themselves and cannot be used with --num_nodes or "
        "--num_gpus.");
  }
  if (!inputs.hosts.empty()) return filter_hosts(inputs.hosts, spec.include, spec.exclude);
  // Without a GPU there is nothing to count: as many places as ranks were asked for.
  Host here{"localhost", {}};
  const int slots = gpus.empty() ? spec.ranks_per_node.value_or(1) : static_cast<int>(gpus.size());
  for (int slot = 0; slot < slots; ++slot) here.slots.push_back(slot);
  return filter_hosts({here}, spec.include, spec.exclude);
}

// The devices of this machine behind the slots of `placement`, each once.
std::vector<std::string> devices_here(const NodePlacement& placement, const std::vector<std::string>& gpus,
                                      bool oversubscribe) {
  std::vector<std::string> devices;
  if (gpus.empty()) return devices;
  for (int slot : placement.slots) {
    const auto index = static_cast<std::size_t>(slot);
    if (index >= gpus.size() && !oversubscribe) {
      fail(
          fmt::format("the plan wants slot {} (counted from 0) of host \"{}\", and only {} GPUs are visible "
                      "here; correct the "
                      "hostfile or CUDA_VISIBLE_DEVICES, or add --oversubscribe.",
                      slot, placement.host, gpus.size()));
    }
    const std::string& device = gpus[index % gpus.size()];
    if (std::find(devices.begin(), devices.end(), device) == devices.end()) devices.push_back(device);
  }
  return devices;
}

std::vector<std::string> devices_elsewhere(const NodePlacement& placement) {
  std::vector<std::string> devices;
  for (int slot : placement.slots) {
    std::string device = std::to_string(slot);
    if (std::find(devices.begin(), devices.end(), device) == devices.end())
      devices.push_back(std::move(device));
  }
  return devices;
}

// The cores to bind ranks to: all, or those of --bind_core_list, whose numbers are the system's logical
// processors.
std::vector<std::vector<int>> cores_to_bind(const JobSpec& spec, const Machine& machine) {
  if (!spec.bind_cores_to_rank && spec.bind_core_list.empty()) return {};
  if (spec.bind_core_list.empty()) return machine.cores;
  std::vector<int> missing = spec.bind_core_list;
  std::vector<std::vector<int>> chosen;
  for (const std::vector<int>& core : machine.cores) {
    std::vector<int> wanted;
    std::set_intersection(core.begin(), core.end(), spec.bind_core_list.begin(), spec.bind_core_list.end(),
                          std::back_inserter(wanted));
    for (int processor : wanted) std::erase(missing, processor);
    if (!wanted.empty()) chosen.push_back(std::move(wanted));
  }
  if (!missing.empty()) {
    fail(
        fmt::format("--bind_core_list names core {}, which this process may not use; `nproc` and `taskset -p "
                    "$$` show what it may.",
                    missing.front()));
  }
  return chosen;
}

void require_a_core_for_each_rank(const JobPlan& plan) {
  if (plan.bound_cores.empty()) return;
  for (const NodePlan& node : plan.nodes) {
    const auto ranks = static_cast<std::size_t>(node.placement.rank_count());
    if (ranks <= plan.bound_cores.size()) continue;
    fail(
        fmt::format("{} ranks cannot be bound to {} cores: each needs at least one; start fewer ranks or "
                    "leave the binding out.",
                    ranks, plan.bound_cores.size()));
  }
}

}  // namespace

JobPlan make_job_plan(const PlanInputs& inputs) {
  const JobSpec& spec = inputs.spec;
  const std::vector<std::string> gpus = visible_gpus(inputs.environment, inputs.machine.gpu_count);
  const std::vector<Host> hosts = hosts_to_use(inputs, gpus);
  JobPlan plan;
  for (NodePlacement& placement :
       place_ranks(hosts, {spec.node_count, spec.ranks_per_node, spec.oversubscribe})) {
    const bool is_here = inputs.machine.is_called(placement.host);
    std::vector<std::string> devices =
        is_here ? devices_here(placement, gpus, spec.oversubscribe) : devices_elsewhere(placement);
    plan.world_size += placement.rank_count();
    plan.nodes.push_back({std::move(placement), std::move(devices), is_here});
  }
  plan.cores_per_node = inputs.machine.core_count();
  plan.bound_cores = cores_to_bind(spec, inputs.machine);
  require_a_core_for_each_rank(plan);
  plan.max_restarts = spec.max_restarts;
  if (plan.nodes.size() == 1) plan.loopback_interface = inputs.machine.loopback_interface;
  plan.program = inputs.program;
  plan.arguments = spec.arguments;
  plan.pass_local_rank = spec.pass_local_rank;
  return plan;
}

void require_this_machine_only(const JobPlan& plan) {
  if (plan.nodes.size() > 1) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format(
            "the job needs {} nodes, and multi-node launch is not in this version. Choose one host with "
            "--include or --num_nodes 1; --dry-run shows the whole plan.",
            plan.nodes.size()));
  }
  if (!plan.nodes.front().is_this_machine) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("the job would run on host \"{}\", which is not this machine, and multi-node launch is "
                    "not in this "
                    "version. Call this machine \"localhost\" in the hostfile, or start deepscale there.",
                    plan.nodes.front().placement.host));
  }
}

std::vector<std::vector<int>> rank_cores(const JobPlan& plan, RankPlace place) {
  if (plan.bound_cores.empty()) return {};
  const std::size_t ranks = static_cast<std::size_t>(plan.local_size(place));
  const std::size_t index = static_cast<std::size_t>(place.local_rank);
  const std::size_t begin = index * plan.bound_cores.size() / ranks;
  const std::size_t end = (index + 1) * plan.bound_cores.size() / ranks;
  return {plan.bound_cores.begin() + static_cast<std::ptrdiff_t>(begin),
          plan.bound_cores.begin() + static_cast<std::ptrdiff_t>(end)};
}

std::vector<int> rank_processors(const JobPlan& plan, RankPlace place) {
  std::vector<int> processors;
  for (const std::vector<int>& core : rank_cores(plan, place))
    processors.insert(processors.end(), core.begin(), core.end());
  std::sort(processors.begin(), processors.end());
  return processors;
}

std::vector<std::string> rank_arguments(const JobPlan& plan, RankPlace place) {
  std::vector<std::string> arguments = plan.program.leading_arguments;
  if (plan.program.is_python && plan.pass_local_rank)
    arguments.push_back(fmt::format("--local_rank={}", place.local_rank));
  arguments.insert(arguments.end(), plan.arguments.begin(), plan.arguments.end());
  return arguments;
}

}  // namespace deepscale
