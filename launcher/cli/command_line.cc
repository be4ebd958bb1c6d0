#include "launcher/cli/command_line.h"

#define CXXOPTS_NO_REGEX  // its std::regex overflows the stack on long values
#include <fmt/core.h>
#include <cxxopts.hpp>

#include <algorithm>

#include "comm/base/error.h"
#include "comm/base/suggest.h"
#include "launcher/cli/bench_options.h"
#include "launcher/cli/launch_options.h"

namespace deepscale {
namespace {

[[noreturn]] void fail(const std::string& message, ErrorCode code = ErrorCode::kInvalidArgument) {
  throw Error(code, message);
}

const LaunchOption* find_option(const std::string& name) {
  const auto& options = launch_options();
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const LaunchOption& option) { return name == option.name; });
  return found == options.end() ? nullptr : &*found;
}

const LaunchOption* find_letter(char letter) {
  const auto& options = launch_options();
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const LaunchOption& option) { return letter == option.letter; });
  return found == options.end() ? nullptr : &*found;
}

// "num-gpus", "nproc_per_node" -> "num_gpus".
std::string folded_name(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  for (const OptionAlias& alias : option_aliases()) {
    if (name == alias.alias) return alias.name;
  }
  return name;
}

[[noreturn]] void fail_unknown(const std::string& as_typed, const std::string& name) {
  const auto& refused = options_not_yet_there();
  if (std::find(refused.begin(), refused.end(), name) != refused.end()) {
    fail(fmt::format("{} is not in this version of deepscale; leave it out.", as_typed),
         ErrorCode::kUnsupported);
  }
  std::vector<std::string> names = {"help", "version"};
  for (const LaunchOption& option : launch_options()) names.push_back(option.name);
  for (const OptionAlias& alias : option_aliases()) names.push_back(alias.alias);
  const auto nearest = suggest(name, names);
  const std::string advice =
      nearest ? fmt::format("Did you mean --{}?", *nearest) : "See deepscale launch --help.";
  fail(fmt::format("unknown option {}. {} (Options of the program stand behind it.)", as_typed, advice));
}

// An option as cxxopts knows it, and whether the word behind it is its value.
struct OptionWord {
  std::string spelling;
  bool takes_next_word = false;
};

OptionWord read_long_option(const std::string& word) {
  const auto equals = word.find('=');
  const std::string name = folded_name(word.substr(2, equals - 2));
  const LaunchOption* option = find_option(name);
  if (option == nullptr) fail_unknown(word.substr(0, equals), name);
  if (equals == std::string::npos) return {"--" + name, option->value_name != nullptr};
  if (option->value_name == nullptr) fail(fmt::format("--{} is a switch and takes no value.", name));
  return {"--" + name + word.substr(equals), false};
}

OptionWord read_short_option(const std::string& word) {
  if (word == "-np") return {"--num_gpus", true};
  const LaunchOption* option = find_letter(word[1]);
  if (option == nullptr || (option->value_name == nullptr && word.size() > 2))
    fail_unknown(word, word.substr(1));
  return {word, option->value_name != nullptr && word.size() == 2};
}

struct SplitCommandLine {
  std::vector<std::string> options;  // spelled as cxxopts knows them
  std::string program;
  std::vector<std::string> arguments;
  bool wants_help = false;
  bool wants_version = false;
};

// cxxopts reads options wherever they stand; ours end at the program, and so we must know where that is.
SplitCommandLine split_at_program(const std::vector<std::string>& words) {
  SplitCommandLine result;
  std::size_t i = 0;
  for (; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--" || word.size() < 2 || word[0] != '-') break;
    if (word == "--help" || word == "-h") result.wants_help = true;
    if (word == "--version") result.wants_version = true;
    if (result.wants_help || result.wants_version) return result;
    const OptionWord option = word[1] == '-' ? read_long_option(word) : read_short_option(word);
    result.options.push_back(option.spelling);
    if (!option.takes_next_word) continue;
    if (i + 1 == words.size())
      fail(fmt::format("{} needs a value behind it; see deepscale launch --help.", word));
    result.options.push_back(words[++i]);
  }
  if (i < words.size() && words[i] == "--") ++i;
  if (i < words.size()) result.program = words[i++];
  result.arguments.assign(words.begin() + static_cast<std::ptrdiff_t>(std::min(i, words.size())),
                          words.end());
  return result;
}

cxxopts::ParseResult parse_with_cxxopts(const std::vector<std::string>& words) {
  cxxopts::Options parser("deepscale launch");
  for (const LaunchOption& option : launch_options()) {
    const std::string names =
        option.letter != 0 ? fmt::format("{},{}", option.letter, option.name) : option.name;
    if (option.value_name == nullptr) {
      parser.add_options(option.group)(names, option.help);
    } else {
      parser.add_options(option.group)(names, option.help, cxxopts::value<std::string>(), option.value_name);
    }
  }
  std::vector<const char*> argv = {"deepscale"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  return parser.parse(static_cast<int>(argv.size()), argv.data());
}

void apply_option(const LaunchOption& option, const std::string& value, JobSpec& spec) {
  // "--include $HOSTS" where HOSTS is not set: to take it for no filter would start the job everywhere.
  if (option.value_name != nullptr && value.empty() && option.name != std::string("launcher_args"))
    fail(fmt::format("--{}: the value is empty; give one, or leave the option out.", option.name));
  try {
    option.apply(spec, value);
  } catch (const Error& error) {
    const std::string why = error.what();
    fail(fmt::format("--{}: {}{}", option.name, why, why.back() == '.' ? "" : "."));
  }
}

void apply_options(const std::vector<std::string>& words, JobSpec& spec) {
  try {
    const cxxopts::ParseResult result = parse_with_cxxopts(words);
    for (const auto& given : result.arguments()) {
      apply_option(*find_option(given.key()), given.value(), spec);
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {  // cxxopts' own types changed their names between versions
    fail(fmt::format("{}; see deepscale launch --help.", error.what()));
  }
}

// python -m would say it too, once for every rank.
void require_module_name(const std::string& name) {
  const bool is_file = name.size() > 3 && name.compare(name.size() - 3, 3, ".py") == 0;
  if (!is_file && name.find_first_of("/\\") == std::string::npos) return;
  fail(fmt::format(
      "--module takes the name of a module, as in package.train, and {} is a file; leave --module "
      "out to run it.",
      name));
}

Command parse_launch(const std::vector<std::string>& words) {
  SplitCommandLine split = split_at_program(words);
  Command command;
  if (split.wants_help) command.action = Command::Action::kLaunchHelp;
  if (split.wants_version) command.action = Command::Action::kVersion;
  if (split.wants_help || split.wants_version) return command;
  apply_options(split.options, command.job);
  if (split.program.empty()) {
    fail(
        "no program was given. Usage: deepscale launch [options] program [arguments]; see deepscale launch "
        "--help.");
  }
  if (command.job.run_as_module && command.job.without_python)
    fail("--module and --no_python contradict each other; keep one of them.");
  if (command.job.run_as_module) require_module_name(split.program);
  command.job.program = std::move(split.program);
  command.job.arguments = std::move(split.arguments);
  return command;
}

Command parse_report(const std::vector<std::string>& words) {
  Command command;
  command.action = Command::Action::kReport;
  for (const std::string& word : words) {
    if (word == "--help" || word == "-h") {
      command.action = Command::Action::kReportHelp;
    } else if (word == "--json") {
      command.json_report = true;
    } else {
      fail(fmt::format("deepscale report does not know {}; its only options are --json and --help.", word));
    }
  }
  return command;
}

Command parse_bench(const std::vector<std::string>& words) {
  Command command;
  if (std::any_of(words.begin(), words.end(),
                  [](const std::string& word) { return word == "--help" || word == "-h"; })) {
    command.action = Command::Action::kBenchHelp;
    return command;
  }
  if (words.empty() || words.front() != "comm") {
    fail("deepscale bench measures one thing so far: deepscale bench comm; see deepscale bench --help.");
  }
  command.action = Command::Action::kBench;
  command.bench_words.assign(words.begin() + 1, words.end());
  command.bench = parse_comm_bench(command.bench_words);
  return command;
}

}  // namespace

Command parse_command_line(const std::vector<std::string>& arguments) {
  const std::string first = arguments.empty() ? "" : arguments.front();
  if (first == "report") return parse_report({arguments.begin() + 1, arguments.end()});
  if (first == "bench") return parse_bench({arguments.begin() + 1, arguments.end()});
  if (first == "estimate" || first == "zero_to_fp32")
    return {.action = Command::Action::kModel, .model_arguments = arguments};
  if (first == "launch") return parse_launch({arguments.begin() + 1, arguments.end()});
  return parse_launch(arguments);
}

std::string launch_help() {
  std::string text =
      "Usage: deepscale [launch] [options] program [arguments]\n"
      "       deepscale report [--json]      what this machine and build have, and what is missing\n"
      "       deepscale bench comm [options]  how fast ranks exchange data here\n"
      "       deepscale estimate --model DIR --num_gpus N     the memory that training a model needs\n"
      "       deepscale zero_to_fp32 CHECKPOINT_DIR OUTPUT    a checkpoint as transformers loads it\n"
      "       deepscale --version\n\n"
      "Starts the ranks of a distributed job, watches them, and ends them all when one fails.\n"
      "A program ending in .py runs under python; options end at the program; '-' and '_' are alike.\n";
  const char* group = "";
  for (const LaunchOption& option : launch_options()) {
    if (group != std::string(option.group)) text += fmt::format("\n{}:\n", group = option.group);
    const std::string letter = option.letter != 0 ? fmt::format("-{}, ", option.letter) : "    ";
    const std::string value = option.value_name != nullptr ? fmt::format(" {}", option.value_name) : "";
    text += fmt::format("  {}{:<24} {}\n", letter, "--" + std::string(option.name) + value, option.help);
  }
  return text +
         "\nExit code: that of the rank that failed first, 128 + signal for a signal, 124 after --timeout, "
         "130 or 143 when\n"
         "interrupted or terminated, 127 or 126 when the program is missing or not executable, 2 for a wrong "
         "command line.\n\n"
         "Examples:\n"
         "  deepscale launch --num_gpus 2 train.py --deepspeed_config ds_config.json\n"
         "  deepscale --num_gpus 4 --log_dir logs --timeout 2h ./my_rank --epochs 3\n";
}

std::string report_help() {
  return "Usage: deepscale report [--json]\n\n"
         "Prints versions, devices, backends and libraries, and what is missing with what to do about it.\n";
}

}  // namespace deepscale
