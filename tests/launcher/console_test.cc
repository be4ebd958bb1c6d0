#include "launcher/run/console.h"

#include <gtest/gtest.h>

namespace deepscale::testing {
namespace {

OutputLine piece(std::string_view text, bool is_start, bool is_end) {
  return {3, OutputStream::kOut, text, is_start, is_end};
}

TEST(FormatOutput, TagsWholeLines) {
  EXPECT_EQ(format_output(piece("hello", true, true), true, false), "[3] hello\n");
  EXPECT_EQ(format_output(piece("", true, true), true, false), "[3] \n");
  EXPECT_EQ(format_output(piece("hello", true, true), false, false), "hello\n");
}

TEST(FormatOutput, PiecesOfALongLineStayApartFromOthers) {
  EXPECT_EQ(format_output(piece("begin", true, false), true, false), "[3] begin\n");
  EXPECT_EQ(format_output(piece("rest", false, true), true, false), "[3] rest\n");
}

TEST(FormatOutput, ARankAloneIsPassedOnAsItIs) {
  EXPECT_EQ(format_output(piece("begin", true, false), false, true), "begin");
  EXPECT_EQ(format_output(piece(std::string_view("\0\xff", 2), false, true), false, true),
            std::string("\0\xff\n", 3));
  OutputLine last = piece("no newline", true, true);
  last.lacks_newline = true;
  EXPECT_EQ(format_output(last, false, true), "no newline");
  EXPECT_EQ(format_output(last, true, false), "[3] no newline\n");
}

}  // namespace
}  // namespace deepscale::testing
