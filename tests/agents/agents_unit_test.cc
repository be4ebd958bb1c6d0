// The pure parts of agents: texts, quoting, the line splitter, the table of rank states.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "agents/node/line_splitter.h"
#include "agents/node/rank_state.h"
#include "agents/process/command_line.h"
#include "agents/process/exit_status.h"
#include "comm/base/error.h"

namespace deepscale {
namespace {

using How = ExitStatus::How;

TEST(ExitStatus, SaysHowItEnded) {
  EXPECT_EQ((ExitStatus{.how = How::kExited, .code = 3}.text()), "exit code 3");
  EXPECT_EQ((ExitStatus{.how = How::kSignalled, .code = 9}.text()), "killed by signal 9 (SIGKILL)");
  EXPECT_EQ((ExitStatus{.how = How::kSignalled, .code = 11, .core_dumped = true}.text()),
            "killed by signal 11 (SIGSEGV), core dumped");
  EXPECT_EQ((ExitStatus{.how = How::kSignalled, .code = 15, .stopped_by_us = true}.text()),
            "killed by signal 15 (SIGTERM), after we stopped it");
  EXPECT_EQ((ExitStatus{.how = How::kCrashed, .code = 0xC0000005}.text()),
            "crashed with 0xC0000005 (access violation)");
  EXPECT_EQ((ExitStatus{.how = How::kCrashed, .code = 0xC0001234}.text()), "crashed with 0xC0001234");
  EXPECT_EQ((ExitStatus{.how = How::kSpawnFailed, .detail = "no such program"}.text()),
            "could not be started: no such program");
  EXPECT_EQ((ExitStatus{.how = How::kLost, .detail = "why"}.text()), "lost: why");
  EXPECT_EQ(ExitStatus{}.text(), "not started");
}

TEST(ExitStatus, GivesTheCodeOfAShell) {
  EXPECT_EQ((ExitStatus{.how = How::kExited, .code = 3}.shell_code()), 3);
  EXPECT_EQ((ExitStatus{.how = How::kSignalled, .code = 15}.shell_code()), 143);
  EXPECT_EQ((ExitStatus{.how = How::kSpawnFailed, .code = 127}.shell_code()), 127);
  EXPECT_EQ((ExitStatus{.how = How::kLost}.shell_code()), 1);
  EXPECT_EQ(static_cast<std::uint32_t>(ExitStatus{.how = How::kCrashed, .code = 0xC0000005}.shell_code()),
            0xC0000005U);
}

TEST(ExitStatus, OnlyAnExitWithZeroIsSuccess) {
  EXPECT_TRUE((ExitStatus{.how = How::kExited, .code = 0}.is_success()));
  EXPECT_FALSE((ExitStatus{.how = How::kExited, .code = 1}.is_success()));
  EXPECT_FALSE((ExitStatus{.how = How::kSignalled, .code = 0}.is_success()));
  EXPECT_FALSE(ExitStatus{}.is_success());
}

TEST(ExitStatus, NamesSignalsOfAnyNumber) {
  EXPECT_EQ(signal_name(1), "SIGHUP");
  EXPECT_EQ(signal_name(31), "SIGSYS");
  EXPECT_EQ(signal_name(34), "signal 34");
  EXPECT_EQ(signal_name(-1), "signal -1");
}

TEST(CommandLine, QuotesAsTheMicrosoftRuntimeParses) {
  EXPECT_EQ(quote_windows_argument("plain"), "plain");
  EXPECT_EQ(quote_windows_argument(""), R"("")");
  EXPECT_EQ(quote_windows_argument("two words"), R"("two words")");
  EXPECT_EQ(quote_windows_argument(R"(C:\dir\)"), R"(C:\dir\)");
  EXPECT_EQ(quote_windows_argument(R"(C:\a dir\)"), R"("C:\a dir\\")");
  EXPECT_EQ(quote_windows_argument(R"(say "hi")"), R"("say \"hi\"")");
  EXPECT_EQ(quote_windows_argument(R"(a\\"b)"), R"("a\\\\\"b")");
  EXPECT_EQ(windows_command_line(R"(C:\Program Files\x.exe)", {"--a", "b c"}),
            R"("C:\Program Files\x.exe" --a "b c")");
}

// The lines of all pieces, with the continued ones joined; checks the flags and the bound on the way.
class Lines {
 public:
  explicit Lines(std::size_t limit) : limit_(limit), splitter_(limit) {}
  void feed(std::string_view bytes) { splitter_.feed(bytes, sink()); }
  void flush() { splitter_.flush(sink()); }
  std::vector<std::string> finish() {
    splitter_.finish(sink());
    EXPECT_TRUE(is_complete_);
    return lines_;
  }
  std::size_t pieces() const { return pieces_; }

 private:
  LineSplitter::Sink sink() {
    return [this](const LineSplitter::Piece& piece) {
      EXPECT_LE(piece.text.size(), limit_);
      EXPECT_EQ(piece.is_start, is_complete_);
      if (piece.is_start) lines_.emplace_back();
      lines_.back() += piece.text;
      is_complete_ = piece.is_end;
      ++pieces_;
    };
  }

  std::size_t limit_;
  LineSplitter splitter_;
  std::vector<std::string> lines_;
  bool is_complete_ = true;
  std::size_t pieces_ = 0;
};

TEST(LineSplitter, CutsLinesAcrossReads) {
  Lines lines(100);
  lines.feed("one\ntw");
  lines.feed("o\n\nthr");
  lines.feed("ee");
  EXPECT_THAT(lines.finish(), ::testing::ElementsAre("one", "two", "", "three"));
}

TEST(LineSplitter, GivesALineWithoutEndInPieces) {
  Lines lines(4);
  lines.feed("abcdefghij\nk");
  EXPECT_THAT(lines.finish(), ::testing::ElementsAre("abcdefghij", "k"));
  EXPECT_EQ(lines.pieces(), 4U);
}

TEST(LineSplitter, PassesOnABegunLineWhenFlushed) {
  Lines lines(100);
  lines.flush();
  lines.feed("one\ntw");
  EXPECT_EQ(lines.pieces(), 1U);
  lines.flush();
  lines.flush();
  EXPECT_EQ(lines.pieces(), 2U);
  lines.feed("o\nthr");
  lines.flush();
  EXPECT_THAT(lines.finish(), ::testing::ElementsAre("one", "two", "thr"));
}

TEST(LineSplitter, ALineOfExactlyTheLimitIsOneLine) {
  Lines whole(4);
  whole.feed("abcd\nefgh\n");
  EXPECT_THAT(whole.finish(), ::testing::ElementsAre("abcd", "efgh"));
  EXPECT_EQ(whole.pieces(), 2U);
  Lines cut(4);
  cut.feed("abcd");
  cut.feed("\nx\n");
  EXPECT_THAT(cut.finish(), ::testing::ElementsAre("abcd", "x"));
}

TEST(LineSplitter, LosesNoByteHoweverTheStreamIsCut) {
  std::mt19937 random(20240607);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    std::vector<std::string> expected;
    for (unsigned line = 0; line < random() % 20; ++line) {
      expected.emplace_back();
      for (unsigned i = 0; i < random() % 50; ++i) {
        const char byte = static_cast<char>(random() % 256);
        expected.back() += byte == '\n' ? '\0' : byte;
      }
      text += expected.back() + '\n';
    }
    Lines lines(1 + random() % 64);
    for (std::string_view rest = text; !rest.empty();) {
      const auto size = std::min<std::size_t>(1 + random() % 40, rest.size());
      lines.feed(rest.substr(0, size));
      rest.remove_prefix(size);
    }
    ASSERT_EQ(lines.finish(), expected) << "round " << round;
  }
}

TEST(RankState, FollowsItsTable) {
  RankStateMachine life;
  for (const RankState next :
       {RankState::kSpawning, RankState::kStarted, RankState::kJoined, RankState::kRunning,
        RankState::kStopping, RankState::kKilling, RankState::kExited}) {
    EXPECT_FALSE(is_final(life.state()));
    life.move_to(next);
  }
  EXPECT_TRUE(is_final(life.state()));
}

TEST(RankState, RefusesAStepThatIsNotInTheTable) {
  RankStateMachine life;
  try {
    life.move_to(RankState::kRunning);
    FAIL() << "planned -> running was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal);
    EXPECT_STREQ(error.what(), "a rank that is planned cannot become running");
  }
  EXPECT_EQ(life.state(), RankState::kPlanned);
}

TEST(RankState, NothingFollowsAnEndAndNothingGoesBack) {
  constexpr int kCount = static_cast<int>(RankState::kLost) + 1;
  for (int from = 0; from < kCount; ++from) {
    for (int to = 0; to < kCount; ++to) {
      const bool may = may_follow(static_cast<RankState>(from), static_cast<RankState>(to));
      if (to <= from || is_final(static_cast<RankState>(from))) {
        EXPECT_FALSE(may) << from << " -> " << to;
      }
    }
  }
}

}  // namespace
}  // namespace deepscale
