#include "launcher/cli/launch_options.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <limits>

#include "comm/base/error.h"
#include "launcher/job/hostfile.h"
#include "launcher/job/rank_environment.h"

namespace deepscale {
namespace {

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

int parse_whole(const std::string& text, int least, int most) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size())
    fail(fmt::format("\"{}\" is not a whole number", text));
  if (value < least || value > most) fail(fmt::format("{} is not between {} and {}", value, least, most));
  return value;
}

int parse_count(const std::string& text) {
  if (text == "0") fail("0 would run nothing; give at least 1");
  return parse_whole(text, 1, 1 << 20);
}

// "90", "1.5", "500ms", "90s", "5m", "2h".
std::chrono::milliseconds parse_duration(const std::string& text) {
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double milliseconds = unit == "ms"                  ? 1
                              : unit.empty() || unit == "s" ? 1e3
                              : unit == "m"                 ? 6e4
                              : unit == "h"                 ? 3.6e6
                                                            : 0;
  const bool is_valid = failure == std::errc() && milliseconds > 0 && std::isfinite(value) && value >= 0;
  // A thousand years fit into the clock; what is longer is no duration of a job.
  if (!is_valid || value * milliseconds > 3e13) {
    fail(fmt::format("\"{}\" is not a duration; write seconds, or a number with ms, s, m or h", text));
  }
  return std::chrono::milliseconds(std::llround(value * milliseconds));
}

// After which the job ends.
std::chrono::milliseconds parse_time_limit(const std::string& text) {
  const auto limit = parse_duration(text);
  if (limit <= limit.zero()) fail("0 would end the job before it does anything");
  return limit;
}

LogLevel parse_level(const std::string& text) {
  return parse_log_level(text == "critical" ? "error" : text);
}

using Spec = JobSpec;
using Text = const std::string&;

constexpr const char* kProgram = "What to run";
constexpr const char* kPlaces = "Where to run it";
constexpr const char* kMeeting = "What the ranks see";
constexpr const char* kLife = "How the job ends";
constexpr const char* kOutput = "What you see";
constexpr const char* kNodes = "Other nodes (multi-node launch is not in this version)";

}  // namespace

const std::vector<LaunchOption>& launch_options() {
  static const std::vector<LaunchOption> options = {
      {kProgram, 0, "module", nullptr, "run the program as \"python -m program\"",
       [](Spec& spec, Text) { spec.run_as_module = true; }},
      {kProgram, 0, "no_python", nullptr, "execute a *.py itself instead of through python",
       [](Spec& spec, Text) { spec.without_python = true; }},
      {kProgram, 0, "no_local_rank", nullptr, "do not pass --local_rank=N to Python programs",
       [](Spec& spec, Text) { spec.pass_local_rank = false; }},
      {kProgram, 0, "venv_script", "FILE", "run in the venv with this activation script",
       [](Spec& spec, Text value) { spec.venv_script = value; }},

      {kPlaces, 0, "num_gpus", "N",
       "ranks per node, also -np, --nproc_per_node (default: one per GPU, else 1)",
       [](Spec& spec, Text value) { spec.ranks_per_node = parse_count(value); }},
      {kPlaces, 0, "num_nodes", "N", "use the first N hosts (default: all)",
       [](Spec& spec, Text value) { spec.node_count = parse_count(value); }},
      {kPlaces, 'H', "hostfile", "FILE",
       "hosts as \"NAME slots=N\" lines (default: /job/hostfile where it exists)",
       [](Spec& spec, Text value) { spec.hostfile = value; }},
      {kPlaces, 'i', "include", "FILTER", "only these: NAME[:SLOT[,SLOT]][@NAME...]",
       [](Spec& spec, Text value) { spec.include = value; }},
      {kPlaces, 'e', "exclude", "FILTER", "all but these; not together with --include",
       [](Spec& spec, Text value) { spec.exclude = value; }},
      {kPlaces, 0, "oversubscribe", nullptr, "allow more ranks than GPUs or slots",
       [](Spec& spec, Text) { spec.oversubscribe = true; }},
      {kPlaces, 0, "bind_cores_to_rank", nullptr, "give each rank its own share of the cores",
       [](Spec& spec, Text) { spec.bind_cores_to_rank = true; }},
      {kPlaces, 0, "bind_core_list", "CORES", "share out these cores only, as in 0-7,16-23",
       [](Spec& spec, Text value) { spec.bind_core_list = parse_number_list(value, "the list"); }},

      {kMeeting, 0, "master_addr", "ADDRESS",
       "address of this machine where the ranks meet (default: 127.0.0.1)",
       [](Spec& spec, Text value) { spec.master_address = value; }},
      {kMeeting, 0, "master_port", "PORT", "port where the ranks meet (default: a free one)",
       [](Spec& spec, Text value) { spec.master_port = parse_whole(value, 0, 65535); }},
      {kMeeting, 0, "env", "NAME=VALUE", "set a variable for all ranks; may be repeated",
       [](Spec& spec, Text value) { spec.environment.push_back(parse_variable(value, "the value")); }},
      {kMeeting, 0, "env_file", "FILE", "variables from NAME=VALUE lines; --env wins",
       [](Spec& spec, Text value) { spec.environment_files.push_back(value); }},

      {kLife, 0, "grace", "TIME", "from the request to stop until the kill (default: 5s)",
       [](Spec& spec, Text value) { spec.grace = parse_duration(value); }},
      {kLife, 0, "max_restarts", "N", "start all ranks again after a failure, at most N times (default: 0)",
       [](Spec& spec, Text value) { spec.max_restarts = parse_whole(value, 0, 1 << 20); }},
      {kLife, 0, "timeout", "TIME", "end the job after this time, with exit code 124 (default: never)",
       [](Spec& spec, Text value) { spec.timeout = parse_time_limit(value); }},
      {kLife, 0, "heartbeat_timeout", "TIME",
       "how long a rank that sends heartbeats may make no step (default: for ever)",
       [](Spec& spec, Text value) { spec.heartbeat_timeout = parse_time_limit(value); }},

      {kOutput, 0, "tag_output", nullptr,
       "begin every line with its [rank] (default: when there are several)",
       [](Spec& spec, Text) { spec.tag_output = true; }},
      {kOutput, 0, "no_tag_output", nullptr, "never do so",
       [](Spec& spec, Text) { spec.tag_output = false; }},
      {kOutput, 0, "rank_filter", "RANKS", "show the output of these ranks only, as in 0,2-3",
       [](Spec& spec, Text value) { spec.shown_ranks = parse_number_list(value, "the list"); }},
      {kOutput, 0, "log_dir", "DIR",
       "write each rank's output to DIR/rank_N.log besides; also --enable_each_rank_log",
       [](Spec& spec, Text value) { spec.log_directory = value; }},
      {kOutput, 0, "json", nullptr, "stdout becomes one JSON object per line: output, events, failure report",
       [](Spec& spec, Text) { spec.json_events = true; }},
      {kOutput, 0, "dry_run", nullptr, "print the plan and start nothing",
       [](Spec& spec, Text) { spec.dry_run = true; }},
      {kOutput, 'q', "quiet", nullptr, "no remarks of the launcher's own, failures excepted",
       [](Spec& spec, Text) { spec.quiet = true; }},
      {kOutput, 0, "log_level", "LEVEL", "debug, info, warning, error or off (default: warning)",
       [](Spec& spec, Text value) { spec.log_level = parse_level(value); }},
      {kOutput, 0, "save_pid", nullptr,
       "keep the launcher's pid in <temporary folder>/<pid>.deepscale while it runs",
       [](Spec& spec, Text) { spec.save_pid = true; }},

      {kNodes, 0, "node_rank", "N", "the place of this machine among the nodes",
       [](Spec& spec, Text value) { spec.node_rank = parse_whole(value, 0, 1 << 20); }},
      {kNodes, 0, "force_multi", nullptr, "use the multi-node path for one node too",
       [](Spec& spec, Text) { spec.force_multi_node = true; }},
      {kNodes, 0, "launcher", "NAME", "how to reach the nodes (pdsh, openmpi, slurm, ...)",
       [](Spec& spec, Text) { spec.options_without_effect.push_back("--launcher"); }},
      {kNodes, 0, "launcher_args", "ARGS", "arguments for it",
       [](Spec& spec, Text) { spec.options_without_effect.push_back("--launcher_args"); }},
      {kNodes, 0, "ssh_port", "PORT", "port of ssh",
       [](Spec& spec, Text value) {
         parse_whole(value, 1, 65535);
         spec.options_without_effect.push_back("--ssh_port");
       }},
      {kNodes, 0, "no_ssh", nullptr, "deepscale is started on every node by hand",
       [](Spec& spec, Text) { spec.options_without_effect.push_back("--no_ssh"); }},
      {kNodes, 0, "no_ssh_check", nullptr, "do not try ssh beforehand",
       [](Spec& spec, Text) { spec.options_without_effect.push_back("--no_ssh_check"); }},
  };
  return options;
}

const std::vector<OptionAlias>& option_aliases() {
  static const std::vector<OptionAlias> aliases = {
      {"num_accelerators", "num_gpus"},
      {"nproc_per_node", "num_gpus"},
      {"np", "num_gpus"},
      {"nnodes", "num_nodes"},
      {"enable_each_rank_log", "log_dir"},
      {"master_address", "master_addr"},
  };
  return aliases;
}

const std::vector<const char*>& options_not_yet_there() {
  static const std::vector<const char*> names = {"elastic_training", "min_elastic_nodes", "max_elastic_nodes",
                                                 "autotuning"};
  return names;
}

}  // namespace deepscale
