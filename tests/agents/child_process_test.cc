// Real children, on every system. What only Linux has is in child_process_linux_test.cc.
#include "agents/process/child_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "comm/base/error.h"
#include "tests/agents/child_run.h"

namespace deepscale::testing {
namespace {

using How = ExitStatus::How;
using ::testing::HasSubstr;

TEST(ChildProcess, ReportsTheExitCodeOnce) {
  ChildRun run(child_options({"exit=3"}));
  EXPECT_GT(run.process->pid(), 0);
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status->how, How::kExited);
  EXPECT_EQ(run.status->code, 3);
  EXPECT_FALSE(run.status->stopped_by_us);
  EXPECT_GT(run.status->duration.count(), 0);
  run.io.run();  // whatever is queued still
  EXPECT_EQ(run.ended_calls, 1);
  EXPECT_EQ(run.gone_calls, 1);
}

TEST(ChildProcess, ReportsACrash) {
  ChildRun run(child_options({"crash"}));
  ASSERT_TRUE(run.finish());
  EXPECT_THAT(run.status->text(), ::testing::AnyOf(HasSubstr("SIGSEGV"), HasSubstr("access violation")));
  EXPECT_FALSE(run.status->is_success());
  EXPECT_FALSE(run.status->stopped_by_us);
}

TEST(ChildProcess, KeepsTheTwoStreamsApart) {
  ChildRun run(child_options({"out=to out\n", "err=to err\n", "out=no newline"}));
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.out, "to out\nno newline");
  EXPECT_EQ(run.error, "to err\n");
}

TEST(ChildProcess, PassesAnyByteThrough) {
  ChildRun run(child_options({"binary"}));
  ASSERT_TRUE(run.finish());
  ASSERT_EQ(run.out.size(), 256U);
  for (int i = 0; i < 256; ++i)
    ASSERT_EQ(static_cast<unsigned char>(run.out[static_cast<std::size_t>(i)]), i);
}

TEST(ChildProcess, PassesArgumentsUnchanged) {
  const std::vector<std::string> arguments = {"plain",          "two words", "",          R"(say "hi")",
                                              R"(back\slash\)", R"(a\\"b)",  "tab\there", "$HOME * ?",
                                              "%PATH%",         "'single'"};
  auto options = child_options({"arguments"});
  options.arguments.insert(options.arguments.end(), arguments.begin(), arguments.end());
  ChildRun run(std::move(options));
  ASSERT_TRUE(run.finish());
  std::string expected;
  for (const auto& argument : arguments) expected += "[" + argument + "]\n";
  EXPECT_EQ(run.out, expected);
}

TEST(ChildProcess, HasExactlyTheGivenEnvironment) {
  auto options = child_options({"variable=GIVEN", "out=|", "variable=HOME", "out=|", "variable=EMPTY"});
  options.environment.set("GIVEN", "a = b; \"c\" 'd'");
  options.environment.set("EMPTY", "");
  options.environment.remove("HOME");
  ChildRun run(std::move(options));
  ASSERT_TRUE(run.finish());
  EXPECT_THAT(run.out, ::testing::StartsWith("a = b; \"c\" 'd'|(unset)|"));
}

TEST(ChildProcess, RunsInItsWorkingDirectory) {
  const auto directory = std::filesystem::temp_directory_path();
  auto options = child_options({"directory"});
  options.working_directory = directory.string();
  ChildRun run(std::move(options));
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(std::filesystem::canonical(run.out), std::filesystem::canonical(directory));
}

TEST(ChildProcess, ReadsNothingFromANullInput) {
  ChildRun run(child_options({"input"}));
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.out, "end of input\n");
}

TEST(ChildProcess, SaysThatAProgramIsNotThere) {
  for (const std::string program : {"/no/such/program", "no-such-program", ""}) {
    auto options = child_options({});
    options.program = program;
    try {
      ChildRun run(std::move(options));
      FAIL() << program << " was started";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotFound) << error.what();
      EXPECT_THAT(error.what(), HasSubstr("cannot start '" + program + "'"));
    }
  }
}

TEST(ChildProcess, SaysThatAWorkingDirectoryIsNotThere) {
  auto options = child_options({});
  options.working_directory = "/no/such/directory";
  try {
    ChildRun run(std::move(options));
    FAIL() << "it was started";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("/no/such/directory"));
  }
}

TEST(ChildProcess, DeliversAllOfAHundredMegabytes) {
  std::size_t bytes = 0;
  bool is_gone = false;
  boost::asio::io_context io;
  ChildProcess process(io, child_options({"flood=100"}),
                       {.on_output = [&](OutputStream, std::string_view text) { bytes += text.size(); },
                        .on_gone = [&] { is_gone = true; }});
  process.wait_until_started();
  ASSERT_TRUE(run_until(
      io, [&] { return is_gone; }, std::chrono::seconds(60)));
  EXPECT_EQ(bytes, std::size_t{100} << 20);
}

TEST(ChildProcess, GoesOnAfterItClosedItsOutput) {
  ChildRun run(child_options({"out=before\n", "close-output", "exit=5"}));
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.out, "before\n");
  EXPECT_EQ(run.status->code, 5);
}

TEST(ChildProcess, ReadsNothingWhilePausedAndLosesNothing) {
  ChildRun run(child_options({"out=ready\n", "flood=2"}));
  ASSERT_TRUE(run.wait_for_output("ready"));
  run.process->pause_output();
  const auto before = run.out.size();
  EXPECT_FALSE(run_until(
      run.io, [&] { return run.out.size() > before; }, std::chrono::milliseconds(100)));
  EXPECT_EQ(run.ended_calls, 0);  // it is blocked: two megabytes fit into no pipe
  run.process->resume_output();
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.out.size(), 6 + (std::size_t{2} << 20));
}

TEST(ChildProcess, KeepsTheLastOutputUntilItMayBeDelivered) {
  ChildRun run(child_options({"out=last words", "exit=4"}));
  run.process->pause_output();
  ASSERT_TRUE(run_until(run.io, [&] { return run.status.has_value(); }));
  EXPECT_FALSE(run_until(
      run.io, [&] { return run.gone_calls > 0; }, std::chrono::milliseconds(100)));
  run.process->resume_output();
  EXPECT_EQ(run.gone_calls, 0);  // never from inside a call
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.out, "last words");
}

TEST(ChildProcess, AKillEndsItThoughItIsPaused) {
  ChildRun run(child_options({"out=ready\n", "flood=100", "hang"}));
  ASSERT_TRUE(run.wait_for_output("ready"));
  run.process->pause_output();
  run.process->kill();
  EXPECT_TRUE(run.finish());
}

TEST(ChildProcess, KillIsIdempotentAndCounts) {
  ChildRun run(child_options({"ignore-stop", "out=ready\n", "hang"}));
  ASSERT_TRUE(run.wait_for_output("ready"));
  run.process->kill();
  run.process->kill();
  ASSERT_TRUE(run.finish());
  EXPECT_TRUE(run.status->stopped_by_us);
  EXPECT_FALSE(run.status->is_success());
  run.process->kill();
  run.process->stop();
  run.io.restart();
  run.io.run();
  EXPECT_EQ(run.gone_calls, 1);
}

TEST(ChildProcess, AGrandchildDoesNotOutliveIt) {
  for (const std::string kind : {"grandchild", "detached-grandchild", "orphan-grandchild"}) {
    ChildRun run(child_options({kind, "exit=0"}));
    const auto grandchild = run.told_pid();
    ASSERT_GT(grandchild, 0) << kind;
    ASSERT_TRUE(run.finish()) << kind;  // though it holds the pipes
    EXPECT_FALSE(is_alive(grandchild)) << kind;
    EXPECT_TRUE(run.status->is_success()) << kind;
    EXPECT_FALSE(run.status->stopped_by_us) << kind;
  }
}

TEST(ChildProcess, AKillEndsGrandchildren) {
  for (const std::string kind : {"grandchild", "detached-grandchild", "orphan-grandchild"}) {
    ChildRun run(child_options({kind, "hang"}));
    const auto grandchild = run.told_pid();
    ASSERT_TRUE(is_alive(grandchild)) << kind;
    run.process->kill();
    ASSERT_TRUE(run.finish()) << kind;
    EXPECT_FALSE(is_alive(grandchild)) << kind;
  }
}

TEST(ChildProcess, ItsDestructorEndsTheTree) {
  ChildRun run(child_options({"ignore-stop", "orphan-grandchild", "hang"}));
  const auto grandchild = run.told_pid();
  const auto child = run.process->pid();
  ASSERT_TRUE(is_alive(grandchild));
  run.process.reset();
  EXPECT_FALSE(is_alive(child));
  EXPECT_FALSE(is_alive(grandchild));
  run.io.run();
  EXPECT_EQ(run.ended_calls + run.gone_calls, 0);
}

TEST(ChildProcess, MayBeDestroyedBeforeItHasStarted) {
  boost::asio::io_context io;
  bool was_called = false;
  {
    ChildProcess process(io, child_options({"out=ready\n"}), {.on_gone = [&] { was_called = true; }});
  }
  io.run();
  EXPECT_FALSE(was_called);
}

TEST(ChildProcess, MayBeDestroyedInItsCallbacks) {
  std::unique_ptr<ChildProcess> process;
  boost::asio::io_context io;
  for (int which = 0; which < 3; ++which) {
    bool is_done = false;
    const auto destroy = [&](int callback) {
      if (callback != which) return;
      process.reset();
      is_done = true;
    };
    process = std::make_unique<ChildProcess>(
        io, child_options({"out=ready\n"}),
        ChildProcess::Callbacks{.on_output = [&](OutputStream, std::string_view) { destroy(0); },
                                .on_ended = [&](const ExitStatus&) { destroy(1); },
                                .on_gone = [&] { destroy(2); }});
    process->wait_until_started();
    EXPECT_TRUE(run_until(io, [&] { return is_done; }));
  }
}

}  // namespace
}  // namespace deepscale::testing
