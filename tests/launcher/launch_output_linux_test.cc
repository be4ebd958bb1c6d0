// Much output, output of unusual shape, and output that cannot be written, through the real deepscale:
// nothing is lost or torn, and the launcher stays small. Sizes are counted by the programs of the system that
// read it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/launcher/launcher_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using namespace std::chrono_literals;
using ::testing::Each;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAreArray;

constexpr std::uint64_t kMegabyte = 1'000'000;
constexpr auto kLongEnough = 170s;

struct ShellResult {
  std::string out;
  std::string error;
  std::int64_t code = -1;
  std::uint64_t peak_rss_bytes = 0;  // the largest of all processes below the shell: mostly the launcher
};

// Runs a line of sh in which $LAUNCH stands for the launcher.
ShellResult run_shell(const std::string& line) {
  ChildProcess::Options options{
      .program = "/bin/sh", .arguments = {"-c", line}, .environment = Environment::of_process()};
  options.environment.set("LAUNCH", DEEPSCALE_TEST_LAUNCHER);
  options.environment.set("LC_ALL", "C");
  ChildRun run(std::move(options));
  ShellResult result;
  EXPECT_TRUE(run.finish(kLongEnough)) << "it did not end; so far: " << run.error;
  if (!run.status) return result;
  return {run.out, run.error, run.status->code, run.status->peak_rss_bytes};
}

TEST(LaunchOutput, AGigabyteOfLinesFromOneRankPassesThroughASmallLauncher) {
  const auto result = run_shell(
      "$LAUNCH -q --tag_output --num_gpus 1 -- sh -c 'yes a line of a rank that has much to tell | "
      "head -c 1073741824' | grep -c '^\\[0\\] a line of a rank that has much to tell$'");
  EXPECT_EQ(result.out, std::to_string(1073741824 / 39) + "\n");  // and a part of one more
  EXPECT_LT(result.peak_rss_bytes, 30 * kMegabyte);
}

TEST(LaunchOutput, ALineWithoutEndPassesInPieces) {
  constexpr int kBytes = 200'000'000;
  const auto counted = run_shell(
      "$LAUNCH -q --num_gpus 2 -- sh -c 'head -c 200000000 /dev/zero | tr \"\\0\" x' | tr -cd x | wc -c");
  EXPECT_EQ(std::stoll("0" + counted.out), 2LL * kBytes) << counted.error;
  EXPECT_LT(counted.peak_rss_bytes, 30 * kMegabyte);
}

TEST(LaunchOutput, BytesOfOneRankPassUnchanged) {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "random").string();
  const auto result =
      run_shell("head -c 20000000 /dev/urandom > " + file + "; $LAUNCH -q --num_gpus 1 -- cat " + file +
                " | cmp - " + file + " && echo same");
  EXPECT_EQ(result.out, "same\n") << result.error;
}

// 8 ranks at 10,000 lines a second for 2 seconds each, half of them to either stream.
TEST(LaunchOutput, PacedLinesOfManyRanksAreWholeAndInOrder) {
  if (std::system("python3 -c 0") != 0) GTEST_SKIP() << "no python3 here";
  const TemporaryFolder folder;
  const auto script = folder.write("paced", R"(
import os, sys, time
rank = os.environ["RANK"]
start = time.monotonic()
for batch in range(200):
    for stream in (sys.stdout, sys.stderr):
        stream.write("".join(f"<{rank} {n} {'x' * 60} {n}>\n" for n in range(batch * 50, batch * 50 + 50)))
        stream.flush()
    time.sleep(max(0, start + (batch + 1) / 100 - time.monotonic()))
)");
  const std::string command = "$LAUNCH -q --num_gpus 8 -- python3 " + script.string();
  const std::string files = (folder.path() / "out").string() + " 2> " + (folder.path() / "err").string();
  ASSERT_EQ(run_shell(command + " > " + files).code, 0);
  for (const std::string name : {"out", "err"}) {
    // Every line is whole and next in the order of its rank, or it is printed.
    const auto bad = run_shell(
        "awk '{ n = next_of[$1]++; rank = substr($1, 2, 1); want = \"[\" rank \"] <\" rank \" \" n \" \" x "
        "\" \" n \">\"; "
        "if ($0 != want) print } END { for (r in next_of) print next_of[r] }' x=$(printf 'x%.0s' $(seq "
        "60)) " +
        (folder.path() / name).string());
    std::vector<std::string> lines = lines_of(bad.out);
    EXPECT_THAT(lines, SizeIs(8)) << bad.out.substr(0, 2000);
    EXPECT_THAT(lines, Each("10000"));
  }
}

// The reader is slower than the ranks: they wait, the launcher does not grow, and nothing is lost.
TEST(LaunchOutput, ASlowReaderSlowsTheRanksDown) {
  const auto result = run_shell(
      "$LAUNCH -q --num_gpus 4 -- sh -c 'yes 0123456789 | head -n 1000000' | "
      "{ for i in 1 2 3 4 5; do head -c 1000000; sleep 0.1; done; cat; } | grep -c '^\\[[0-3]\\] "
      "0123456789$'");
  EXPECT_EQ(result.out, "4000000\n");
  EXPECT_LT(result.peak_rss_bytes, 30 * kMegabyte);
}

struct LossCase {
  const char* name;
  const char* line;
  std::int64_t code;
  std::vector<std::string> out;  // lines; when a loss is found is a matter of time
  std::vector<std::string> error;
};

constexpr const char* kStdoutIsLost =
    "deepscale: output is lost: stdout cannot be written: No space left on device";
constexpr const char* kStderrIsLost =
    "deepscale: output is lost: stderr cannot be written: No space left on device";

class LostOutput : public ::testing::TestWithParam<LossCase> {};

TEST_P(LostOutput, IsToldOnceAndIsNoSuccess) {
  const auto result = run_shell(std::string("$LAUNCH -q --num_gpus 1 -- ") + GetParam().line);
  EXPECT_EQ(result.code, GetParam().code);
  EXPECT_THAT(lines_of(result.out), UnorderedElementsAreArray(GetParam().out));
  EXPECT_THAT(lines_of(result.error), UnorderedElementsAreArray(GetParam().error));
}

INSTANTIATE_TEST_SUITE_P(
    Streams, LostOutput,
    ::testing::Values(
        LossCase{"Stdout", "echo lost > /dev/full", 1, {}, {kStdoutIsLost}},
        LossCase{"Stderr", "sh -c 'echo lost >&2; echo kept' 2> /dev/full", 1, {"kept", kStderrIsLost}, {}},
        LossCase{"Both", "sh -c 'echo lost; echo lost >&2' > /dev/full 2>&1", 1, {}, {}},
        LossCase{"OfAFailure", "sh -c 'exit 3' 2> /dev/full", 3, {kStderrIsLost}, {}}),
    [](const auto& instance) { return std::string(instance.param.name); });

// Else they would be whatever the launcher opens first.
TEST(LaunchOutput, ClosedStandardStreamsLeadNowhere) {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "streams").string();
  const auto result = run_shell(
      "(export LAUNCHER=$(exec sh -c 'echo $PPID'); exec $LAUNCH -q --num_gpus 1 -- sh -c "
      "'echo lost; echo lost >&2; readlink /proc/$LAUNCHER/fd/0 /proc/$LAUNCHER/fd/1 /proc/$LAUNCHER/fd/2 "
      "> " +
      file + "') <&- >&- 2>&-; echo code $?; cat " + file);
  EXPECT_EQ(result.out, "code 0\n/dev/null\n/dev/null\n/dev/null\n") << result.error;
}

}  // namespace
}  // namespace deepscale::testing
