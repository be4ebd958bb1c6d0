#include "launcher/cli/command_line.h"

#include "launcher/cli/launch_options.h"
#include "tests/launcher/expect_error.h"

namespace deepscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Action = Command::Action;
using Words = std::vector<std::string>;

JobSpec parse(const Words& words) {
  return parse_command_line(words).job;
}
std::string complaint(const Words& words, ErrorCode code = ErrorCode::kInvalidArgument) {
  return message_of([&] { parse_command_line(words); }, code);
}

TEST(CommandLine, OptionsEndAtTheProgram) {
  const JobSpec job = parse({"launch", "--num_gpus", "2", "train.py", "--num_gpus", "8", "-q", "--", "x"});
  EXPECT_EQ(job.ranks_per_node, 2);
  EXPECT_EQ(job.program, "train.py");
  EXPECT_THAT(job.arguments, ElementsAre("--num_gpus", "8", "-q", "--", "x"));
  EXPECT_FALSE(job.quiet);
}

TEST(CommandLine, ADoubleDashEndsTheOptions) {
  const JobSpec job = parse({"--num_gpus", "2", "--", "--odd-name", "x"});
  EXPECT_EQ(job.program, "--odd-name");
  EXPECT_THAT(job.arguments, ElementsAre("x"));
}

TEST(CommandLine, ASubcommandIsOptional) {
  EXPECT_EQ(parse({"cifar10", "--deepscale"}).program, "cifar10");
  EXPECT_EQ(parse({"launch", "launch"}).program, "launch");
  EXPECT_EQ(parse_command_line({"estimate", "--model", "m"}).action, Action::kModel);
  EXPECT_EQ(parse_command_line({"zero_to_fp32", "a", "b"}).model_arguments,
            (std::vector<std::string>{"zero_to_fp32", "a", "b"}));
  EXPECT_EQ(parse_command_line({"report", "--json"}).json_report, true);
  EXPECT_EQ(parse_command_line({"report"}).action, Action::kReport);
  EXPECT_EQ(parse_command_line({"--version"}).action, Action::kVersion);
  EXPECT_EQ(parse_command_line({"launch", "-h"}).action, Action::kLaunchHelp);
  EXPECT_EQ(parse_command_line({"--num_gpus", "2", "--help"}).action, Action::kLaunchHelp);
}

TEST(CommandLine, SpellingsOfTheFieldAreAlike) {
  for (const Words& words :
       {Words{"--num-gpus", "3", "x"}, Words{"--num_gpus=3", "x"}, Words{"--num_accelerators", "3", "x"},
        Words{"--nproc-per-node=3", "x"}, Words{"-np", "3", "x"}}) {
    EXPECT_EQ(parse(words).ranks_per_node, 3) << words.front();
  }
  EXPECT_EQ(parse({"-H", "hosts", "x"}).hostfile, "hosts");
  EXPECT_EQ(parse({"-Hhosts", "x"}).hostfile, "hosts");
  EXPECT_EQ(parse({"--enable_each_rank_log", "logs", "x"}).log_directory, "logs");
}

TEST(CommandLine, ValuesMayBeAnything) {
  const JobSpec job =
      parse({"--env", "A=1,2=3", "--env=B=", "--env", "C=-x --y", "--include", "a:0,1@b", "x"});
  EXPECT_THAT(job.environment,
              ElementsAre(std::pair("A", "1,2=3"), std::pair("B", ""), std::pair("C", "-x --y")));
  EXPECT_EQ(job.include, "a:0,1@b");
  const std::string large(1 << 20, 'v');
  EXPECT_EQ(parse({"--env", "A=" + large, "x"}).environment.front().second, large);
}

TEST(CommandLine, EveryOptionIsTaken) {
  const JobSpec job = parse({"--module",
                             "--no_local_rank",
                             "--num_nodes",
                             "2",
                             "--oversubscribe",
                             "--master_addr",
                             "localhost",
                             "--master_port",
                             "1234",
                             "--grace",
                             "1.5",
                             "--timeout",
                             "2h",
                             "--max_restarts",
                             "3",
                             "--tag_output",
                             "--rank_filter",
                             "0,2-3",
                             "--json",
                             "--dry-run",
                             "-q",
                             "--log_level",
                             "debug",
                             "--save_pid",
                             "--env_file",
                             "e",
                             "--exclude",
                             "b",
                             "--venv_script",
                             "v/activate",
                             "--node_rank",
                             "0",
                             "--no_ssh",
                             "package.main"});
  EXPECT_TRUE(job.run_as_module && !job.pass_local_rank && job.oversubscribe && job.json_events &&
              job.dry_run && job.quiet && job.save_pid);
  EXPECT_EQ(job.node_count, 2);
  EXPECT_EQ(job.master_address, "localhost");
  EXPECT_EQ(job.master_port, 1234);
  EXPECT_EQ(job.grace, std::chrono::milliseconds(1500));
  EXPECT_EQ(job.timeout, std::chrono::hours(2));
  EXPECT_EQ(job.max_restarts, 3);
  EXPECT_EQ(job.tag_output, true);
  EXPECT_THAT(job.shown_ranks, ElementsAre(0, 2, 3));
  EXPECT_EQ(job.log_level, LogLevel::kDebug);
  EXPECT_THAT(job.environment_files, ElementsAre("e"));
  EXPECT_THAT(job.options_without_effect, ElementsAre("--no_ssh"));
  EXPECT_EQ(job.program, "package.main");
}

TEST(CommandLine, MistakesAreNamedWithWhatToTry) {
  EXPECT_THAT(complaint({"--num_gpu", "2", "x"}),
              HasSubstr("unknown option --num_gpu. Did you mean --num_gpus?"));
  EXPECT_THAT(complaint({"--zzzzzz", "x"}), HasSubstr("See deepscale launch --help."));
  EXPECT_THAT(complaint({"-z", "x"}), HasSubstr("unknown option -z"));
  EXPECT_THAT(complaint({"--num_gpus", "two", "x"}), HasSubstr("--num_gpus: \"two\" is not a whole number"));
  EXPECT_THAT(complaint({"--num_gpus", "-1", "x"}), HasSubstr("--num_gpus: -1 is not between 1 and"));
  EXPECT_THAT(complaint({"--num_gpus", "0", "x"}), HasSubstr("0 would run nothing"));
  EXPECT_THAT(complaint({"--num_gpus", "99999999999", "x"}), HasSubstr("--num_gpus"));
  EXPECT_THAT(complaint({"--master_port", "70000", "x"}),
              HasSubstr("--master_port: 70000 is not between 0 and 65535"));
  EXPECT_THAT(complaint({"--timeout", "soon", "x"}), HasSubstr("is not a duration"));
  EXPECT_THAT(complaint({"--timeout", "-1", "x"}), HasSubstr("is not a duration"));
  EXPECT_THAT(complaint({"--timeout", "nan", "x"}), HasSubstr("is not a duration"));
  EXPECT_THAT(complaint({"--timeout", "0", "x"}), HasSubstr("--timeout: 0 would end the job"));
  EXPECT_THAT(complaint({"--heartbeat_timeout", "0s", "x"}),
              HasSubstr("--heartbeat_timeout: 0 would end the job"));
  EXPECT_THAT(complaint({"--json=yes", "x"}), HasSubstr("--json is a switch"));
  EXPECT_THAT(complaint({"--env", "=x", "x"}), HasSubstr("is not NAME=VALUE"));
  EXPECT_THAT(complaint({"--num_gpus"}), HasSubstr("num_gpus"));
  EXPECT_THAT(complaint({}), HasSubstr("no program was given"));
  EXPECT_THAT(complaint({"--log_level", "loud", "x"}), HasSubstr("--log_level"));
  EXPECT_THAT(complaint({"--module", "--no_python", "x"}), HasSubstr("contradict"));
  EXPECT_THAT(complaint({"report", "--gpus"}), HasSubstr("--gpus"));
}

TEST(CommandLine, WhatIsNotThereYetIsRefusedByName) {
  for (const char* name : options_not_yet_there()) {
    EXPECT_THAT(complaint({"--" + std::string(name), "x"}, ErrorCode::kUnsupported),
                HasSubstr("not in this version"));
  }
}

TEST(CommandLine, HelpNamesEveryOptionOnALineThatFits) {
  const std::string help = launch_help();
  for (const LaunchOption& option : launch_options())
    EXPECT_THAT(help, HasSubstr("--" + std::string(option.name)));
  std::size_t start = 0;
  for (std::size_t end = help.find('\n'); end != std::string::npos;
       start = end + 1, end = help.find('\n', start)) {
    EXPECT_LE(end - start, 120U) << help.substr(start, end - start);
  }
}

}  // namespace
}  // namespace deepscale::testing
