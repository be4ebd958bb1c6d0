#include "launcher/run/failure_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/run/job_events.h"

namespace deepscale::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using How = ExitStatus::How;

RankResult ended(int rank, How how, std::int64_t code, bool stopped_by_us = false) {
  RankResult result;
  result.rank = rank;
  result.local_rank = rank;
  result.pid = 100 + rank;
  result.status.how = how;
  result.status.code = code;
  result.status.stopped_by_us = stopped_by_us;
  result.status.duration = 2500ms;
  return result;
}

FailureReport report_on(RankResult cause, std::optional<std::int64_t> out_of_memory_kills = 0) {
  NodeResult result;
  result.ranks = {std::move(cause)};
  result.first_cause = 0;
  return make_failure_report(result, {"node-1", 0, out_of_memory_kills});
}

RankResult with_last_words(RankResult result, const char* words) {
  result.last_error_lines = {"...", words};
  return result;
}

TEST(FailureReport, TellsTheClassesApart) {
  EXPECT_EQ(report_on(ended(0, How::kExited, 3)).failure_class, FailureClass::kExitCode);
  EXPECT_EQ(report_on(with_last_words(ended(0, How::kExited, 1), "Traceback (most recent call last):"))
                .failure_class,
            FailureClass::kPythonException);
  EXPECT_EQ(
      report_on(with_last_words(ended(0, How::kExited, 1), "torch.OutOfMemoryError: CUDA out of memory."))
          .failure_class,
      FailureClass::kOutOfMemory);
  EXPECT_EQ(report_on(ended(0, How::kSignalled, 11)).failure_class, FailureClass::kCrash);
  EXPECT_EQ(report_on(ended(0, How::kSignalled, 15)).failure_class, FailureClass::kSignal);
  EXPECT_EQ(report_on(ended(0, How::kSignalled, 9)).failure_class, FailureClass::kKilledFromOutside);
  EXPECT_EQ(report_on(ended(0, How::kSignalled, 9), 1).failure_class, FailureClass::kOutOfMemory);
  EXPECT_EQ(report_on(ended(0, How::kCrashed, 0xC0000005)).failure_class, FailureClass::kCrash);
  EXPECT_EQ(report_on(ended(0, How::kSpawnFailed, 2)).failure_class, FailureClass::kNotStarted);
  EXPECT_EQ(report_on(ended(0, How::kLost, 0)).failure_class, FailureClass::kLost);
}

TEST(FailureReport, ACaughtKillSaysWhatIsKnownAboutMemory) {
  EXPECT_THAT(report_on(ended(0, How::kSignalled, 9), 0).explanation,
              HasSubstr("the kernel counted no kill for lack of memory"));
  EXPECT_THAT(report_on(ended(0, How::kSignalled, 9), std::nullopt).explanation,
              HasSubstr("does not tell whether memory ran out"));
  RankResult large = ended(0, How::kSignalled, 9);
  large.status.peak_rss_bytes = 3'200'000'000;
  EXPECT_THAT(report_on(large, 2).explanation, HasSubstr("It held up to 3.2 GB of memory"));
}

TEST(FailureReport, TheExitCodeIsNeverZero) {
  EXPECT_EQ(report_on(ended(0, How::kExited, 3)).exit_code, 3);
  EXPECT_EQ(report_on(ended(0, How::kSignalled, 9)).exit_code, 137);
  EXPECT_EQ(report_on(ended(0, How::kLost, 0)).exit_code, 1);
}

TEST(FailureReport, IsOneBlockThatTellsCauseFromConsequence) {
  NodeResult result;
  result.ranks = {ended(0, How::kSignalled, 15, true),
                  ended(1, How::kExited, 0),
                  with_last_words(ended(2, How::kExited, 3), "no data\r"),
                  ended(3, How::kExited, 4),
                  ended(4, How::kSignalled, 9, true),
                  ended(5, How::kNotStarted, 0)};
  result.first_cause = 2;
  const FailureReport report = make_failure_report(result, {"node-1", 1, 0});
  EXPECT_THAT(report.stopped, ElementsAre(0, 4));
  EXPECT_THAT(report.succeeded, ElementsAre(1));
  EXPECT_THAT(report.also_failed, ElementsAre(3));
  EXPECT_THAT(report.never_started, ElementsAre(5));
  const std::string text = failure_text(report);
  EXPECT_THAT(text, HasSubstr("deepscale: the job failed: rank 2 of 6: exit code 3\n"));
  EXPECT_THAT(text, HasSubstr("  where          node-1, local rank 2, pid 102\n"));
  EXPECT_THAT(text, HasSubstr(", after 2.50 s\n"));
  EXPECT_THAT(text, HasSubstr("  failed as well rank 3\n  stopped for it ranks 0,4\n  had finished   rank "
                              "1\n  not started    rank 5\n"
                              "  last lines of rank 2's stderr:\n    | ...\n    | no data\n"));
}

TEST(FailureEvent, IsOneLineOfJsonWhateverTheRankWrote) {
  const std::string line =
      failure_event(report_on(with_last_words(ended(0, How::kSignalled, 11), "\xff\"quoted\"\n")));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const auto event = nlohmann::json::parse(line);
  EXPECT_EQ(event["class"], "crash");
  EXPECT_EQ(event["status"]["signal"], "SIGSEGV");
  EXPECT_EQ(event["exit_code"], 139);
  EXPECT_EQ(event["host"], "node-1");
}

TEST(Texts, OfDurationsAndSizes) {
  EXPECT_EQ(duration_text(250ms), "0.25 s");
  EXPECT_EQ(duration_text(12340ms), "12.3 s");
  EXPECT_EQ(duration_text(185s), "3 min 5 s");
  EXPECT_EQ(duration_text(3h + 5min), "3 h 5 min");
  EXPECT_EQ(bytes_text(3'200'000'000), "3.2 GB");
  EXPECT_EQ(bytes_text(47'000'000), "47 MB");
  EXPECT_EQ(bytes_text(1'500), "2 kB");
}

}  // namespace
}  // namespace deepscale::testing
