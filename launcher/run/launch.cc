#include "launcher/run/launch.h"

#include <fmt/core.h>

#include <cstdio>

#include "comm/base/error.h"
#include "launcher/job/file_path.h"
#include "launcher/job/job_plan.h"
#include "launcher/job/plan_text.h"
#include "launcher/job/rank_environment.h"
#include "launcher/run/fine_timers.h"
#include "launcher/run/job_runner.h"
#include "launcher/run/stop_event.h"

namespace deepscale {
namespace {

constexpr const char* kDefaultHostfile = "/job/hostfile";
constexpr int kNotExecutableExitCode = 126;
constexpr int kNotFoundExitCode = 127;

Environment environment_for(const JobSpec& spec) {
  std::vector<std::pair<std::string, std::string>> additions;
  for (const std::string& file : spec.environment_files) {
    for (auto& variable : read_environment_file(file)) additions.push_back(std::move(variable));
  }
  additions.insert(additions.end(), spec.environment.begin(), spec.environment.end());
  Environment environment = job_environment(Environment::of_process(), additions);
  if (!spec.venv_script.empty()) activate_venv(environment, spec.venv_script);
  return environment;
}

std::vector<Host> hosts_for(const JobSpec& spec) {
  if (!spec.hostfile.empty()) return read_hostfile(spec.hostfile);
  std::error_code failure;
  return std::filesystem::exists(kDefaultHostfile, failure) ? read_hostfile(kDefaultHostfile)
                                                            : std::vector<Host>();
}

void refuse_multi_node_options(const JobSpec& spec) {
  const char* option = spec.force_multi_node            ? "--force_multi"
                       : spec.node_rank.value_or(0) > 0 ? "--node_rank"
                                                        : nullptr;
  if (option == nullptr) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("{} asks for other nodes, and multi-node launch is not in "
                                                   "this version; leave it out to run on this machine.",
                                                   option));
}

// Remarks that cost the user a surprise when left out.
std::vector<std::string> remarks(const JobSpec& spec, const JobPlan& plan, const Machine& machine) {
  std::vector<std::string> texts;
  for (const std::string& option : spec.options_without_effect)
    texts.push_back(option + " has no effect on one machine");
  if (plan.nodes.front().devices.empty()) {
    texts.push_back(fmt::format(
        "{}: {} on the CPU", machine.gpu_count > 0 ? "CUDA_VISIBLE_DEVICES hides every GPU" : "no GPU here",
        count_text(static_cast<std::size_t>(plan.world_size), "rank")));
  }
  return texts;
}

int print_plan(const JobSpec& spec, const JobPlan& plan, const Environment& environment) {
  Rendezvous rendezvous;
  rendezvous.job_id = "(new for every job)";
  rendezvous.port = spec.master_port;
  if (!spec.master_address.empty()) rendezvous.address = spec.master_address;
  const std::string text = describe(plan, environment, rendezvous);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace

int launch(const JobSpec& spec) {
  refuse_multi_node_options(spec);
  Environment environment = environment_for(spec);
  Machine machine = Machine::of_this();
  if (spec.bind_cores_to_rank || !spec.bind_core_list.empty()) machine.learn_gpu_places();
  Program program;
  try {
    program = resolve_program(spec, environment);
  } catch (const Error& error) {
    fmt::print(stderr, "deepscale: {}\n", error.what());
    return error.code() == ErrorCode::kNotFound ? kNotFoundExitCode : kNotExecutableExitCode;
  }
  if (program.is_python) add_python_link(environment);
  JobPlan plan = make_job_plan({spec, hosts_for(spec), machine, environment, program});
  if (spec.dry_run) return print_plan(spec, plan, environment);
  require_this_machine_only(plan);
  std::vector<std::string> notes = remarks(spec, plan, machine);
  const FineTimers fine_timers;
  const StopEvent stop_event;
  return run_job({spec, std::move(plan), environment, machine.host_name, std::move(notes),
                  Logger("launcher", spec.log_level)});
}

}  // namespace deepscale
