// Log lines and the line of the step loop on one terminal: each log line stands there whole and alone.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "comm/base/log.h"
#include "comm/base/terminal.h"
#include "runtime/monitor/step_display.h"

namespace deepscale::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

// stderr is a terminal of its own while the object lives.
class PseudoTerminal {
 public:
  PseudoTerminal() : screen_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)), stderr_(::dup(STDERR_FILENO)) {
    if (screen_ < 0 || ::grantpt(screen_) != 0 || ::unlockpt(screen_) != 0)
      throw std::runtime_error("there is no pseudo-terminal");
    const int terminal = ::open(::ptsname(screen_), O_RDWR | O_NOCTTY | O_CLOEXEC);
    ::dup2(terminal, STDERR_FILENO);
    ::close(terminal);
  }
  ~PseudoTerminal() {
    ::dup2(stderr_, STDERR_FILENO);
    ::close(stderr_);
    ::close(screen_);
  }
  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;

  // What stands on the screen, without blanks at the ends of lines; the last one is where the cursor is.
  const std::vector<std::string>& lines() {
    // What was written to a terminal can be read at once: the mark tells that it was all.
    const std::string mark = "\x01";
    EXPECT_EQ(::write(STDERR_FILENO, mark.data(), mark.size()), 1);
    for (bool at_mark = false; !at_mark;) {
      char byte = 0;
      if (::read(screen_, &byte, 1) != 1) throw std::runtime_error("the terminal is gone");
      at_mark = byte == mark.front();
      if (!at_mark) put(byte);
    }
    for (std::string& line : lines_) line.erase(line.find_last_not_of(' ') + 1);
    return lines_;
  }

 private:
  void put(char byte) {
    if (byte == '\r') {
      column_ = 0;
    } else if (byte == '\n') {
      lines_.emplace_back();
    } else {
      std::string& line = lines_.back();
      if (line.size() <= column_) line.resize(column_ + 1, ' ');
      line[column_++] = byte;
    }
  }

  const int screen_, stderr_;
  std::vector<std::string> lines_ = {""};
  std::size_t column_ = 0;
};

TEST(StepDisplayOnATerminal, GivesWayToLogLinesAndComesBackWithTheNextStep) {
  PseudoTerminal terminal;
  ASSERT_TRUE(stderr_is_terminal());
  const Logger logger("log", LogLevel::kInfo);
  const Clock::time_point start = Clock::now();
  StepDisplay display(logger.status_line());
  display.show(1, std::string(70, 'x'), start);
  EXPECT_THAT(terminal.lines().back(), HasSubstr("step 1, xxx"));
  Logger(logger).info("short");
  ASSERT_EQ(terminal.lines().size(), 2U);
  EXPECT_THAT(terminal.lines()[0], EndsWith("] short")) << "and nothing of the longer line";
  EXPECT_EQ(terminal.lines()[1], "");
  display.show(2, "", start + std::chrono::seconds(1));
  EXPECT_EQ(terminal.lines().back(), "step 2, 1 steps/s");
  logger.warning("more");
  EXPECT_EQ(terminal.lines().back(), "");
  EXPECT_EQ(terminal.lines().size(), 3U);
}

TEST(StepDisplayOnATerminal, StaysWholeWhereAnotherThreadLogs) {
  PseudoTerminal terminal;
  const Logger logger("log", LogLevel::kInfo);
  constexpr int kLines = 20;
  {
    StepDisplay display(logger.status_line());
    std::thread another([&] {
      for (int i = 0; i < kLines; ++i) logger.info("line");
    });
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kLines; ++i) display.show(i, std::string(60, 'x'), start + std::chrono::seconds(i));
    another.join();
  }
  const std::vector<std::string>& lines = terminal.lines();
  ASSERT_EQ(lines.size(), kLines + 1U);
  for (int i = 0; i < kLines; ++i) EXPECT_THAT(lines[static_cast<std::size_t>(i)], EndsWith("] line"));
  EXPECT_EQ(lines.back(), "");
}

}  // namespace
}  // namespace deepscale::testing
