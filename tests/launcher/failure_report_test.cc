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

FailureReport report_on(RankResult cause, const MemoryEvidence& memory = {.kills = 0}) {
  NodeResult result;
  result.ranks = {std::move(cause)};
  result.first_cause = 0;
  return make_failure_report(result, {"node-1", 0, memory});
}

FailureClass class_of(RankResult cause, const MemoryEvidence& memory = {.kills = 0}) {
  return report_on(std::move(cause), memory).failure_class;
}

RankResult with_report(RankResult result, RankFailure kind, const char* message) {
  result.reported = {kind, message};
  return result;
}

RankResult with_last_words(RankResult result, const char* words) {
  result.last_error_lines = {"...", words};
  return result;
}

// Another rank heard of its failure and was faster.
TEST(FailureReport, TheSignalOfARankThatWasStoppedAfterItsReportIsNotTheCause) {
  const FailureReport report = report_on(
      with_report(ended(0, How::kSignalled, 15, /*stopped_by_us=*/true), RankFailure::kException, "a disk"));
  EXPECT_EQ(report.exit_code, 1);
  EXPECT_EQ(report.headline, "reported an error, and was stopped before it had ended");
  EXPECT_THAT(report.explanation, HasSubstr("a disk"));
}

TEST(FailureReport, TellsTheClassesApart) {
  EXPECT_EQ(class_of(ended(0, How::kExited, 3)), FailureClass::kExitCode);
  EXPECT_EQ(class_of(ended(0, How::kSignalled, 11)), FailureClass::kSegfault);
  EXPECT_EQ(class_of(ended(0, How::kSignalled, 7)), FailureClass::kSegfault);
  EXPECT_EQ(class_of(ended(0, How::kSignalled, 6)), FailureClass::kCrash);
  EXPECT_EQ(class_of(ended(0, How::kSignalled, 15)), FailureClass::kPreempted);
  EXPECT_EQ(class_of(ended(0, How::kSignalled, 12)), FailureClass::kSignal);
  EXPECT_EQ(class_of(ended(0, How::kCrashed, 0xC0000005)), FailureClass::kSegfault);
  EXPECT_EQ(class_of(ended(0, How::kCrashed, 0xC000001D)), FailureClass::kCrash);
  EXPECT_EQ(class_of(ended(0, How::kCrashed, 0xC000013A)), FailureClass::kPreempted);
  EXPECT_EQ(class_of(ended(0, How::kSpawnFailed, 2)), FailureClass::kNotStarted);
  EXPECT_EQ(class_of(ended(0, How::kLost, 0)), FailureClass::kLost);
}

TEST(FailureReport, TheLastWordsTellTheClass) {
  const auto class_with = [](const char* words, How how = How::kExited, int code = 1) {
    return class_of(with_last_words(ended(0, how, code), words));
  };
  EXPECT_EQ(class_with("Traceback (most recent call last):"), FailureClass::kException);
  EXPECT_EQ(
      class_with("terminate called after throwing an instance of 'std::runtime_error'", How::kSignalled, 6),
      FailureClass::kException);
  EXPECT_EQ(class_with("terminate called after throwing an instance of 'std::bad_alloc'", How::kSignalled, 6),
            FailureClass::kOutOfMemory);
  EXPECT_EQ(class_with("torch.OutOfMemoryError: CUDA out of memory."), FailureClass::kOutOfMemory);
  EXPECT_EQ(class_with("RuntimeError: CUDA error: an illegal memory access was encountered"),
            FailureClass::kCuda);
  EXPECT_EQ(class_with("[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3"),
            FailureClass::kCollectiveTimeout);
  EXPECT_EQ(class_with("Traceback (most recent call last):", How::kSignalled, 11), FailureClass::kSegfault);
}

TEST(FailureReport, ARanksOwnReportTellsMoreThanItsLastWords) {
  const RankResult words = with_last_words(ended(0, How::kExited, 1), "Traceback (most recent call last):");
  EXPECT_EQ(class_of(with_report(words, RankFailure::kCollectiveTimeout, "")),
            FailureClass::kCollectiveTimeout);
  EXPECT_EQ(class_of(with_report(words, RankFailure::kPeerLost, "")), FailureClass::kPeerLost);
  EXPECT_EQ(class_of(with_report(words, RankFailure::kCuda, "")), FailureClass::kCuda);
  EXPECT_EQ(class_of(with_report(words, RankFailure::kOutOfMemory, "")), FailureClass::kOutOfMemory);
  const auto report = report_on(with_report(words, RankFailure::kException, "it broke\nin two"));
  EXPECT_EQ(report.failure_class, FailureClass::kException);
  EXPECT_THAT(report.explanation, ::testing::EndsWith("It reported: it broke"));
  // It had reported, and was stopped before it ended.
  EXPECT_EQ(class_of(with_report(ended(0, How::kSignalled, 15, true), RankFailure::kCuda, "")),
            FailureClass::kCuda);
  // A kill is a kill, whatever it said before.
  EXPECT_EQ(class_of(with_report(ended(0, How::kSignalled, 9), RankFailure::kException, "")),
            FailureClass::kKilledFromOutside);
}

TEST(FailureReport, AKillForLackOfMemoryIsToldFromAnother) {
  RankResult killed = ended(0, How::kSignalled, 9);
  killed.status.peak_rss_bytes = 3'200'000'000;
  EXPECT_EQ(class_of(killed), FailureClass::kKilledFromOutside);
  EXPECT_EQ(class_of(killed, {.kills = 1}), FailureClass::kOutOfMemory);
  EXPECT_EQ(class_of(killed, {.kills = 1, .log_names_it = false}), FailureClass::kKilledFromOutside);
  EXPECT_EQ(class_of(killed, {.log_names_it = true}), FailureClass::kOutOfMemory);
  const MemoryEvidence somewhere = {.kills = 1, .counts_whole_machine = true, .total_bytes = 8'000'000'000};
  EXPECT_EQ(class_of(killed, somewhere), FailureClass::kOutOfMemory);
  killed.status.peak_rss_bytes = 10'000'000;
  EXPECT_EQ(class_of(killed, somewhere), FailureClass::kKilledFromOutside);
}

TEST(FailureReport, AKillSaysWhatIsKnownAboutMemory) {
  EXPECT_THAT(report_on(ended(0, How::kSignalled, 9)).explanation,
              HasSubstr("the kernel counted no kill for lack of memory"));
  EXPECT_THAT(report_on(ended(0, How::kSignalled, 9), {}).explanation,
              HasSubstr("does not tell whether memory ran out"));
  RankResult large = ended(0, How::kSignalled, 9);
  large.status.peak_rss_bytes = 3'200'000'000;
  EXPECT_THAT(report_on(large, {.kills = 2}).explanation, HasSubstr("It held up to 3.2 GB of memory"));
}

TEST(FailureReport, AHangNamesTheRankToBlameAndEndsWithTheCodeOfALimit) {
  NodeResult result;
  result.ranks = {ended(0, How::kSignalled, 15, true), ended(1, How::kSignalled, 15, true)};
  result.ranks[1].steps = 9;
  result.first_cause = 1;
  result.hang = Hang{.index = 1, .steps = 9, .standstill = 60s, .most_steps = 10, .watched = 2};
  const FailureReport report = make_failure_report(result, {"node-1", 0, {}});
  EXPECT_EQ(report.failure_class, FailureClass::kHang);
  EXPECT_EQ(report.exit_code, 124);
  EXPECT_THAT(report.stopped, ElementsAre(0));
  const std::string text = failure_text(report);
  EXPECT_THAT(text,
              HasSubstr("rank 1 of 2: hangs: it made no step for 60.0 s: it has done 9, others up to 10\n"));
  EXPECT_THAT(text, HasSubstr("  steps done     9\n"));
}

TEST(KernelLog, NamesTheProcessThatWasKilledForMemory) {
  using std::chrono::microseconds;
  const char* record =
      "3,1234,5000000,-;Out of memory: Killed process 4711 (python3) total-vm:1kB, anon-rss:1kB";
  EXPECT_EQ(names_killed_process(record, 4711, microseconds(4'000'000)), true);
  EXPECT_EQ(names_killed_process(record, 471, microseconds(4'000'000)), false);
  EXPECT_EQ(names_killed_process(record, 4711, microseconds(6'000'000)), std::nullopt) << "before our time";
  EXPECT_EQ(names_killed_process("3,1,5000000,-;Memory cgroup out of memory: Killed process 7 (a)", 7,
                                 microseconds(0)),
            true);
  for (const char* other : {"", ";", "3,1;x", "3,1,5,-;eth0: link up", "3,1,5,-;Killed process 7 (a)"})
    EXPECT_EQ(names_killed_process(other, 7, microseconds(0)), std::nullopt) << other;
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
  const FailureReport report = make_failure_report(result, {"node-1", 1, {.kills = 0}});
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
  EXPECT_EQ(event["class"], "segfault");
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
