// Ranks that use their link, under the real deepscale: hangs, reports, restarts with and without progress.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/launcher/launcher_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

std::vector<std::string> with_program(std::vector<std::string> options,
                                      const std::vector<std::string>& actions) {
  options.push_back(DEEPSCALE_TEST_LINK_PROGRAM);
  options.insert(options.end(), actions.begin(), actions.end());
  return options;
}

// The last event of this name.
Json last_event(const std::string& output, const std::string& name) {
  Json found;
  for (const std::string& line : lines_of(output)) {
    Json event = Json::parse(line);
    if (event["event"] == name) found = std::move(event);
  }
  return found;
}

TEST(LaunchHang, NamesTheRankThatHangsAndShowsEveryStack) {
  const TemporaryFolder folder;
  const std::string meet = "meet=" + folder.path().string();
  const auto result = run_launcher(with_program({"--num_gpus", "3", "--heartbeat_timeout", "2"},
                                                {meet, "steps=100000", "1:spin@5", "0:hang@6", "2:hang@6"}));
  EXPECT_EQ(result.exit_code, 124);
  EXPECT_THAT(result.error,
              AllOf(HasSubstr("rank 1 hangs: it made no step for"), HasSubstr("has done 5, others up to 6"),
                    HasSubstr("rank 1 of 3: hangs"), HasSubstr("class          hang."),
                    HasSubstr("steps done     5"), HasSubstr("stopped for it ranks 0,2")));
  for (const char* rank : {"[0] ", "[1] ", "[2] "})
    EXPECT_THAT(result.error, HasSubstr(std::string(rank) + "deepscale: stack of thread"));
}

TEST(LaunchHang, IsAnEventAndAClassInJson) {
  const auto result =
      run_launcher(with_program({"--json", "--heartbeat_timeout", "1500ms"}, {"steps=100000", "hang@3"}));
  EXPECT_EQ(result.exit_code, 124);
  EXPECT_EQ(last_event(result.out, "rank_joined")["rank"], 0);
  const Json hang = last_event(result.out, "hang");
  EXPECT_EQ(hang["rank"], 0);
  EXPECT_EQ(hang["steps"], 3);
  const Json failure = last_event(result.out, "failure");
  EXPECT_EQ(failure["class"], "hang");
  EXPECT_EQ(failure["steps"], 3);
  EXPECT_EQ(failure["exit_code"], 124);
}

TEST(LaunchHang, IsAReasonToRestart) {
  const auto result =
      run_launcher(with_program({"--max_restarts", "1", "--heartbeat_timeout", "300ms"}, {"hang@3"}));
  EXPECT_EQ(result.exit_code, 124);
  EXPECT_THAT(result.error, AllOf(HasSubstr("restart 1 of 1"), HasSubstr("  restarts       1")));
}

TEST(LaunchHang, ARankWithoutHeartbeatsMayTakeItsTime) {
  const auto result = run_launcher({"--heartbeat_timeout", "50ms", "{rank}", "sleep=400", "exit=0"});
  EXPECT_EQ(result.exit_code, 0) << result.error;
}

TEST(LaunchReport, WhatARankReportsIsInTheFailureReport) {
  const auto result = run_launcher(with_program({"--json", "--num_gpus", "2"}, {"1:report=no data left@5"}));
  EXPECT_EQ(result.exit_code, 1);
  const Json failure = last_event(result.out, "failure");
  EXPECT_EQ(failure["class"], "exception");
  EXPECT_EQ(failure["rank"], 1);
  EXPECT_EQ(failure["reported"], "no data left");
  EXPECT_EQ(failure["steps"], 5);
}

TEST(LaunchRestart, EndsWhenRestartsDoNotGetFurther) {
  const auto result = run_launcher(with_program({"--max_restarts", "10"}, {"exit-by-generation@5"}));
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.error, AllOf(HasSubstr("restart 2 of 10"), Not(HasSubstr("restart 3 of 10")),
                                  HasSubstr("no further restart: the last 2 did not get beyond step 5")));
}

TEST(LaunchRestart, GoesOnWhileEachGetsFurther) {
  const auto result = run_launcher(with_program({"--max_restarts", "4"}, {"base=3", "exit-by-generation@5"}));
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.error, AllOf(HasSubstr("restart 4 of 4"), Not(HasSubstr("no further restart"))));
}

}  // namespace
}  // namespace deepscale::testing
