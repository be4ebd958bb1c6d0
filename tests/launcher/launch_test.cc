// The real deepscale with real ranks, on every system. What needs signals is in launch_linux_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "launcher/job/file_path.h"
#include "tests/launcher/launcher_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;
using Json = nlohmann::json;

TEST(Launch, SucceedsQuietly) {
  const auto result = run_launcher({"launch", "--quiet", "--num_gpus", "2", "{rank}", "out=hello"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(lines_of(result.out), UnorderedElementsAre("[0] hello", "[1] hello"));
  EXPECT_EQ(result.error, "");
}

TEST(Launch, WithoutTheSubcommandIsALaunchToo) {
  const auto result = run_launcher({"{rank}", "out=hello"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(lines_of(result.out), UnorderedElementsAre("hello"));
}

TEST(Launch, ReturnsTheCodeOfTheFirstCauseAndNamesIt) {
  const auto result = run_launcher(  // which does not wait for as long as that grace
      {"--num_gpus", "5", "--grace", "100", "{rank}", "3:err=no more data", "3:exit=3", "hang"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.error, AllOf(HasSubstr("rank 3 of 5: exit code 3"), HasSubstr("| no more data"),
                                  HasSubstr("stopped for it ranks 0-2,4")));
}

TEST(Launch, NeverReturnsZeroAfterAFailure) {
  EXPECT_EQ(run_launcher({"--num_gpus", "2", "{rank}", "0:exit=1"}).exit_code, 1);
}

TEST(Launch, ATimeoutHasItsOwnExitCode) {
  const auto result = run_launcher(
      {"--num_gpus", "2", "--timeout", "300ms", "--grace", "100ms", "{rank}", "ignore-stop", "hang"});
  EXPECT_EQ(result.exit_code, 124);
  EXPECT_THAT(result.error, HasSubstr("ended by --timeout after 0.30 s"));
}

TEST(Launch, AMissingProgramStartsNothing) {
  const auto result = run_launcher({"--num_gpus", "4", "no_such_program"});
  EXPECT_EQ(result.exit_code, 127);
  EXPECT_THAT(result.error, HasSubstr("program not found: no_such_program"));
  EXPECT_EQ(lines_of(result.error).size(), 1U);
}

TEST(Launch, AMissingScriptStartsNothing) {
  const auto result = run_launcher({"no_such_script.py"});
  EXPECT_EQ(result.exit_code, 127);
  EXPECT_THAT(result.error, HasSubstr("Python script not found: no_such_script.py"));
}

TEST(Launch, WrongCommandLinesEndWithTwo) {
  const auto unknown = run_launcher({"--num_gpsu", "2", "{rank}"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.error, HasSubstr("Did you mean --num_gpus?"));
  const auto none = run_launcher({"--num_gpus", "0", "{rank}"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.error, HasSubstr("--num_gpus: 0 would run nothing"));
}

TEST(Launch, EveryRankSeesTheContract) {
  const auto result = run_launcher(
      {"--num_gpus", "2", "--env", "COLOUR=deep blue=1", "{rank}", "variable=RANK", "variable=LOCAL_RANK",
       "variable=WORLD_SIZE", "variable=LOCAL_WORLD_SIZE", "variable=MASTER_ADDR",
       "variable=TORCHELASTIC_USE_AGENT_STORE", "variable=COLOUR", "variable=OMPI_COMM_WORLD_RANK"},
      {{"RANK", "77"}, {"OMPI_COMM_WORLD_RANK", "5"}});
  EXPECT_EQ(result.exit_code, 0);
  std::vector<std::string> expected;
  for (const std::string rank : {"0", "1"}) {
    for (const std::string& variable :
         {"RANK=" + rank, "LOCAL_RANK=" + rank, std::string("WORLD_SIZE=2"),
          std::string("LOCAL_WORLD_SIZE=2"), std::string("MASTER_ADDR=127.0.0.1"),
          std::string("TORCHELASTIC_USE_AGENT_STORE=True"), std::string("COLOUR=deep blue=1"),
          std::string("OMPI_COMM_WORLD_RANK=(unset)")}) {
      expected.push_back("[" + rank + "] " + variable);
    }
  }
  EXPECT_THAT(lines_of(result.out), ::testing::UnorderedElementsAreArray(expected));
}

TEST(Launch, ArgumentsArriveUnchanged) {
  const auto result =
      run_launcher({"-np", "1", "{rank}", "arguments", "--num_gpus", "two words", "", "a\"b", "--"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(lines_of(result.out),
              ::testing::ElementsAre("argument <--num_gpus>", "argument <two words>", "argument <>",
                                     "argument <a\"b>", "argument <-->"));
}

TEST(Launch, NoLineIsLostOrTorn) {
  constexpr int kRanks = 8;
  constexpr int kLines = 10'000;
  const auto result =
      run_launcher({"-q", "--num_gpus", std::to_string(kRanks), "{rank}", "lines=" + std::to_string(kLines)});
  ASSERT_EQ(result.exit_code, 0);
  std::map<int, int> next;  // even lines are on stdout, odd ones on stderr
  for (const auto& [text, parity] : {std::pair(result.out, 0), std::pair(result.error, 1)}) {
    for (int rank = 0; rank < kRanks; ++rank) next[rank] = parity;
    for (const std::string& line : lines_of(text)) {
      int tag = -1, number = -1, rank = -1, length = 0;
      const int fields = std::sscanf(line.c_str(), "[%d] line %d of rank %d, which has much to tell%n", &tag,
                                     &number, &rank, &length);
      ASSERT_TRUE(fields == 3 && length == static_cast<int>(line.size()) && tag == rank) << line;
      ASSERT_EQ(number, next[rank]) << line;
      next[rank] += 2;
    }
    for (int rank = 0; rank < kRanks; ++rank) EXPECT_EQ(next[rank], kLines + parity) << "rank " << rank;
  }
}

TEST(Launch, ShowsOnlyTheWantedRanksAndLogsAll) {
  const TemporaryFolder folder;
  const auto result =
      run_launcher({"-q", "--num_gpus", "3", "--rank_filter", "1-2", "--no_tag_output", "--log_dir",
                    (folder.path() / "deep").string(), "{rank}", "variable=RANK", "err=oops"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(lines_of(result.out), UnorderedElementsAre("RANK=1", "RANK=2"));
  for (const std::string rank : {"0", "1", "2"}) {
    std::ifstream file(folder.path() / "deep" / ("rank_" + rank + ".log"));
    const std::string text(std::istreambuf_iterator<char>(file), {});
    EXPECT_THAT(lines_of(text), UnorderedElementsAre("RANK=" + rank, "oops"));
  }
}

// Windows takes paths of more than 260 characters only from programs that say so, and names beyond the code
// page only in UTF-16.
TEST(Launch, LogsWhereThePathIsLongAndNotAscii) {
  const TemporaryFolder folder;
  std::filesystem::path place = folder.path();
  for (int depth = 0; depth < 4; ++depth) place /= std::u8string(80, u8'd') + u8"-\u00FC\u6DF1";
  const auto result = run_launcher({"-q", "--log_dir", to_text(place), "{rank}", "out=kept"});
  EXPECT_EQ(result.exit_code, 0) << result.error;
  std::ifstream file(place / "rank_0.log");
  EXPECT_THAT(lines_of(std::string(std::istreambuf_iterator<char>(file), {})), UnorderedElementsAre("kept"));
}

TEST(Launch, JsonTellsTheWholeStory) {
  const auto result =
      run_launcher({"--json", "--num_gpus", "2", "{rank}", "1:err=broken", "1:exit=5", "hang"});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_EQ(result.error, "");
  std::map<std::string, Json> last;
  for (const std::string& line : lines_of(result.out)) {
    const Json event = Json::parse(line);
    last[event["event"]] = event;
  }
  EXPECT_EQ(last["job_started"]["world_size"], 2);
  EXPECT_EQ(last["output"]["text"], "broken");
  EXPECT_EQ(last["output"]["stream"], "stderr");
  EXPECT_EQ(last["failure"]["rank"], 1);
  EXPECT_EQ(last["failure"]["status"]["code"], 5);
  EXPECT_EQ(last["failure"]["last_stderr_lines"], Json::array({"broken"}));
  EXPECT_EQ(last["failure"]["stopped"], Json::array({0}));
  EXPECT_EQ(last["job_finished"]["exit_code"], 5);
  EXPECT_TRUE(last.count("rank_started") == 1 && last.count("rank_exited") == 1);
}

TEST(Launch, RestartsWithANewGenerationUntilTheBudgetIsUsed) {
  const auto result =
      run_launcher({"--max_restarts", "1", "--num_gpus", "1", "{rank}", "variable=DEEPSCALE_GENERATION",
                    "variable=TORCHELASTIC_RESTART_COUNT", "exit=4"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(lines_of(result.out),
              ::testing::ElementsAre("DEEPSCALE_GENERATION=0", "TORCHELASTIC_RESTART_COUNT=0",
                                     "DEEPSCALE_GENERATION=1", "TORCHELASTIC_RESTART_COUNT=1"));
  EXPECT_THAT(result.error, AllOf(HasSubstr("restart 1 of 1"), HasSubstr("rank 0 of 1: exit code 4")));
}

TEST(Launch, StopsRestartsThatMakeNoProgress) {
  const auto result = run_launcher({"--max_restarts", "100", "{rank}", "exit=4"});
  EXPECT_EQ(result.exit_code, 4);
  EXPECT_THAT(result.error, AllOf(HasSubstr("restart 2 of 100"), Not(HasSubstr("restart 3 of 100")),
                                  HasSubstr("no further restart")));
}

TEST(Launch, DryRunStartsNothing) {
  const auto result =
      run_launcher({"--dry-run", "--num_gpus", "2", "--master_port", "1234", "{rank}", "out=started"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("job: 2 ranks on 1 node\n  node 0: localhost, ranks 0-1, on the CPU\n"),
                    HasSubstr("MASTER_PORT=1234\n"), HasSubstr(" out=started\n"), Not(HasSubstr("[0]"))));
}

TEST(Launch, ABusyPortIsNamed) {
  const auto first = start_launcher({"--json", "{rank}", "hang"});
  ASSERT_TRUE(first->wait_for_output("rank_started"));
  const int port = Json::parse(lines_of(first->out)[1])["master_port"];
  const auto second = run_launcher({"--master_port", std::to_string(port), "{rank}"});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.error, HasSubstr(std::to_string(port)));
}

TEST(Launch, RefusesWhatThisVersionCannotDo) {
  for (const std::string option : {"--autotuning", "--force_multi", "--elastic_training"}) {
    const auto result = run_launcher({option, "{rank}"});
    EXPECT_EQ(result.exit_code, 2) << option;
    EXPECT_THAT(result.error, AllOf(HasSubstr(option), HasSubstr("not in this version"))) << option;
  }
}

TEST(Launch, ReportAndHelpAndVersion) {
  // Another program of ours, which works with models.
  const auto estimate = run_launcher({"estimate", "--help"});
  EXPECT_EQ(estimate.exit_code, 0) << estimate.error;
  EXPECT_THAT(estimate.out, HasSubstr("--num_gpus"));
  EXPECT_EQ(run_launcher({"zero_to_fp32", "one folder"}).exit_code, 2);
  const auto report = run_launcher({"report"});
  EXPECT_EQ(report.exit_code, 0);
  EXPECT_THAT(report.out, AllOf(HasSubstr("op name ................ installed .. compatible"),
                                HasSubstr("[OKAY]"), HasSubstr("cores to use")));
  const auto json = run_launcher({"report", "--json"});
  EXPECT_EQ(Json::parse(json.out)["backends"]["single"]["compatible"], true);
  EXPECT_THAT(run_launcher({"launch", "--help"}).out, HasSubstr("--num_gpus N"));
  EXPECT_THAT(run_launcher({"--version"}).out, HasSubstr("deepscale "));
}

TEST(Launch, DsReportIsTheReport) {
  ChildProcess::Options options;
  options.program = DEEPSCALE_TEST_DS_REPORT;
  options.arguments = {"--json"};
  options.environment = Environment::of_process();
  ChildRun run(std::move(options));
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.status->is_success()) << run.error;
  EXPECT_EQ(Json::parse(run.out)["backends"]["tcp"]["compatible"], true);
}

}  // namespace
}  // namespace deepscale::testing
