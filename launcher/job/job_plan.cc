#include "launcher/job/job_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <map>

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
std::vector<Core> cores_to_bind(const JobSpec& spec, const Machine& machine) {
  if (!spec.bind_cores_to_rank && spec.bind_core_list.empty()) return {};
  if (spec.bind_core_list.empty()) return machine.cores;
  std::vector<int> missing = spec.bind_core_list;
  std::vector<Core> chosen;
  for (const Core& core : machine.cores) {
    Core wanted{{}, core.numa_node};
    std::set_intersection(core.processors.begin(), core.processors.end(), spec.bind_core_list.begin(),
                          spec.bind_core_list.end(), std::back_inserter(wanted.processors));
    for (int processor : wanted.processors) std::erase(missing, processor);
    if (!wanted.processors.empty()) chosen.push_back(std::move(wanted));
  }
  if (!missing.empty()) {
    fail(
        fmt::format("--bind_core_list names core {}, which this process may not use; `nproc` and `taskset -p "
                    "$$` show what it may.",
                    missing.front()));
  }
  return chosen;
}

// The NUMA node near each rank's GPU; nothing when one is not known, or has fewer cores than ranks.
std::vector<int> nodes_near_gpus(const PlanInputs& inputs, const JobPlan& plan,
                                 const std::vector<std::string>& gpus) {
  const NodePlan& node = plan.nodes.front();
  if (plan.bound_cores.empty() || gpus.empty() || !node.is_this_machine) return {};
  std::map<int, std::ptrdiff_t> ranks_of;
  std::vector<int> near_nodes;
  for (const int slot : node.placement.slots) {
    const std::string& device = gpus[static_cast<std::size_t>(slot) % gpus.size()];
    near_nodes.push_back(inputs.machine.numa_node_of_gpu(device));
    ++ranks_of[near_nodes.back()];
  }
  for (const auto& [numa_node, ranks] : ranks_of) {
    const auto is_near = [wanted = numa_node](const Core& core) { return core.numa_node == wanted; };
    if (std::count_if(plan.bound_cores.begin(), plan.bound_cores.end(), is_near) < ranks) return {};
  }
  return near_nodes;
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

void require_room_here(const JobPlan& plan, const Machine& machine) {
  for (const NodePlan& node : plan.nodes) {
    if (!node.is_this_machine || node.placement.rank_count() <= machine.most_ranks) continue;
    fail(
        fmt::format("{} ranks on this machine are more than its limits allow, which is about {} ({}); start "
                    "fewer, or raise the limits.",
                    node.placement.rank_count(), machine.most_ranks, machine.what_limits_ranks));
  }
}

void require_that_ranks_exist(const std::vector<int>& shown_ranks, int world_size) {
  if (shown_ranks.empty() || shown_ranks.back() < world_size) return;
  fail(fmt::format("--rank_filter names rank {}, and the job's {} ranks are counted from 0 to {}.",
                   shown_ranks.back(), world_size, world_size - 1));
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
  require_room_here(plan, inputs.machine);
  require_that_ranks_exist(spec.shown_ranks, plan.world_size);
  plan.cores_per_node = inputs.machine.usable_core_count();
  plan.bound_cores = cores_to_bind(spec, inputs.machine);
  require_a_core_for_each_rank(plan);
  plan.near_nodes = nodes_near_gpus(inputs, plan, gpus);
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

std::vector<Core> rank_cores(const JobPlan& plan, RankPlace place) {
  std::vector<Core> cores = plan.bound_cores;
  auto sharers = static_cast<std::size_t>(plan.local_size(place));
  auto index = static_cast<std::size_t>(place.local_rank);
  if (!plan.near_nodes.empty() && plan.nodes[static_cast<std::size_t>(place.node)].is_this_machine) {
    const auto own = plan.near_nodes.begin() + place.local_rank;
    sharers = static_cast<std::size_t>(std::count(plan.near_nodes.begin(), plan.near_nodes.end(), *own));
    index = static_cast<std::size_t>(std::count(plan.near_nodes.begin(), own, *own));
    std::erase_if(cores, [&](const Core& core) { return core.numa_node != *own; });
  }
  const auto begin = cores.begin() + static_cast<std::ptrdiff_t>(index * cores.size() / sharers);
  const auto end = cores.begin() + static_cast<std::ptrdiff_t>((index + 1) * cores.size() / sharers);
  return {begin, end};
}

std::vector<int> rank_processors(const JobPlan& plan, RankPlace place) {
  std::vector<int> processors;
  for (const Core& core : rank_cores(plan, place))
    processors.insert(processors.end(), core.processors.begin(), core.processors.end());
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
