// The tolerant JSON reader: comments and trailing commas, and where it says a mistake is.
#include "runtime/config/json_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "tests/runtime/config_fixture.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using testing_config::refusal_of;

nlohmann::json parsed(std::string_view text) {
  return parse_json_text(text, "c.json");
}
std::string mistake(std::string_view text) {
  const auto refusal = refusal_of([&] { parse_json_text(text, "c.json"); });
  EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
  return refusal.message;
}

TEST(JsonText, BlanksCommentsAndTrailingCommasInPlace) {
  EXPECT_EQ(blank_comments("{\"a\": 1} # x"), "{\"a\": 1}    ");
  EXPECT_EQ(blank_comments("// x\n{}"), "    \n{}");
  EXPECT_EQ(blank_comments("{/* x\r\n y */}"), "{    \r\n     }");
  EXPECT_EQ(blank_comments("[1, 2, ]"), "[1, 2  ]");
  EXPECT_EQ(blank_comments("{\"a\": [1,],}"), "{\"a\": [1 ] }");
  EXPECT_EQ(blank_comments("[1, // last\n]"), "[1         \n]");
}

TEST(JsonText, LeavesTextsAlone) {
  for (const char* text :
       {R"({"url": "http://x#y /* z */", "b": "a,]"})", R"(["\"//", "\\"])", R"({",}": ",}"})"}) {
    EXPECT_EQ(blank_comments(text), text);
  }
}

TEST(JsonText, LeavesMistakesForTheParser) {
  for (const char* text : {"[1,,]", "{/* open", "\"open // text", "[1 / 2]"}) {
    EXPECT_EQ(blank_comments(text), text);
  }
  EXPECT_THAT(mistake("{/* open"), HasSubstr("line 1, column 2"));
  EXPECT_THAT(mistake("{\"a\": [1,,]}"), HasSubstr("line 1, column 10"));
}

// Any bytes at all: the length stays, and every newline stays where it is.
TEST(JsonText, KeepsPositionsForRandomText) {
  std::mt19937 random(3);
  const std::string alphabet = "{}[],:\"\\/*# \n\r1a";
  for (int round = 0; round < 3000; ++round) {
    std::string text(random() % 40, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    const std::string blanked = blank_comments(text);
    ASSERT_EQ(blanked.size(), text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (blanked[i] != text[i]) {
        ASSERT_EQ(blanked[i], ' ') << text;
        ASSERT_NE(text[i], '\n') << text;
      }
    }
  }
}

TEST(JsonText, ReadsWhatItBlanked) {
  EXPECT_EQ(parsed("{ # one\n \"a\": [1, 2,], // two\n \"b\": {/*three*/},\n}"),
            nlohmann::json::parse(R"({"a": [1, 2], "b": {}})"));
}

TEST(JsonText, SaysWhereAndWhatTheMistakeIs) {
  const std::string missing_comma = mistake("{\n  # note\n  \"a\": 1\n  \"b\": 2\n}");
  EXPECT_THAT(missing_comma, HasSubstr("c.json: line 4, column 5: malformed JSON"));
  EXPECT_THAT(missing_comma, HasSubstr("comma missing"));
  EXPECT_THAT(missing_comma, HasSubstr("the line is:   \"b\": 2"));
  EXPECT_EQ(missing_comma.find('\n'), std::string::npos);

  EXPECT_THAT(mistake("{\r\n  train: 1\r\n}"), HasSubstr("line 2"));
  EXPECT_THAT(mistake("{\r\n  train: 1\r\n}"), HasSubstr("double quotes"));
  EXPECT_THAT(mistake("{\"a\": [1"), HasSubstr("bracket not closed"));
  EXPECT_THAT(mistake("{\"a\": 1e999}"), HasSubstr("number overflow"));
  EXPECT_THAT(mistake("{\"a\": \"\xff\"}"), HasSubstr("line 1"));
  EXPECT_THAT(mistake(std::string(1000, 'x')), HasSubstr(" ..."));
  EXPECT_EQ(mistake("{\"a\x01\x02\": 1}").find('\x01'), std::string::npos);
}

TEST(JsonText, RefusesWhatIsNoObject) {
  for (const char* text : {"", " \n\t", "# only a comment", "/* and another */"})
    EXPECT_THAT(mistake(text), HasSubstr("empty"));
  EXPECT_THAT(mistake("[1]"), HasSubstr("got array"));
  EXPECT_THAT(mistake("3"), HasSubstr("got number"));
  EXPECT_THAT(mistake("{} {}"), HasSubstr("line 1, column 4"));
}

TEST(JsonText, FindsKeysThatOccurTwice) {
  EXPECT_THAT(mistake(R"({"a": 1, "b": 2, "a": 1})"), HasSubstr("c.json: a: the key occurs twice"));
  EXPECT_THAT(mistake(R"({"z": {"a": {"x": 1}, "b": {"x": 1, "x": 2}}})"), HasSubstr("z.b.x: the key"));
  EXPECT_THAT(mistake(R"({"z": [{"x": 1}, {"x": 1, "x": 2}]})"), HasSubstr("z.x: the key"));
  EXPECT_NO_THROW(parsed(R"({"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}]})"));
}

TEST(JsonText, LimitsTheDepth) {
  const auto nested = [](std::size_t depth) {
    return "{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}";
  };
  EXPECT_NO_THROW(parsed(nested(60)));
  EXPECT_THAT(mistake(nested(100)), HasSubstr("levels deep"));
  EXPECT_THAT(mistake("{\"a\":" + std::string(1'000'000, '[')), HasSubstr("levels deep"));
}

}  // namespace
}  // namespace deepscale
