#include "launcher/job/job_plan.h"

#include <fmt/core.h>

#include <algorithm>

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
  plan.cores_per_node = inputs.machine.core_count;
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

std::vector<std::string> rank_arguments(const JobPlan& plan, RankPlace place) {
  std::vector<std::string> arguments = plan.program.leading_arguments;
  if (plan.program.is_python && plan.pass_local_rank)
    arguments.push_back(fmt::format("--local_rank={}", place.local_rank));
  arguments.insert(arguments.end(), plan.arguments.begin(), plan.arguments.end());
  return arguments;
}

}  // namespace deepscale
