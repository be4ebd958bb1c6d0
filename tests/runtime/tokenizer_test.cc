// Tokenizers against what the tokenizers library computes with the same files, for one of each published
// kind; and what is refused, by name.
#include "runtime/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/base/error.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using testing::Refusal;
using testing::refusal_of;

class GoldenTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTokenizer, EncodesAndDecodesAsTheLibraryDoes) {
  const auto folder = std::filesystem::path(DEEPSCALE_GOLDEN_TOKENIZERS) / GetParam();
  const Tokenizer tokenizer = Tokenizer::from_pretrained(folder);
  std::ifstream file(folder / "expected.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_GT(cases.size(), 40U);
  for (const nlohmann::json& one : cases) {
    const std::string text = one["text"];
    const std::vector<std::int64_t> tokens = one["tokens"];
    EXPECT_EQ(tokenizer.encode(text), tokens) << text;
    EXPECT_EQ(tokenizer.encode(text, false), one["plain_tokens"].get<std::vector<std::int64_t>>()) << text;
    EXPECT_EQ(tokenizer.decode(tokens), one["decoded"].get<std::string>()) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoldenTokenizer,
                         ::testing::Values("gpt2", "opt", "smollm", "llama3", "llama2", "metaspace",
                                           "bert_uncased", "bert_cased"),
                         [](const auto& info) { return std::string(info.param); });

// A tokenizer of the letters a and b with these parts more.
std::string letters(const std::string& parts) {
  return R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]})" + parts + "}";
}

Refusal refusal(const std::string& json) {
  return refusal_of([&] { Tokenizer::parse(json, "tokenizer.json"); });
}

TEST(Tokenizer, FindsTokensAndTheirTexts) {
  const Tokenizer tokenizer = Tokenizer::parse(
      letters(R"(, "added_tokens": [{"id": 7, "content": "<end>", "special": true}])"), "tokenizer.json");
  EXPECT_EQ(tokenizer.encode("abba<end>"), (std::vector<std::int64_t>{2, 1, 0, 7}));
  EXPECT_EQ(tokenizer.find("<end>"), 7);
  EXPECT_EQ(tokenizer.find("c"), std::nullopt);
  EXPECT_EQ(tokenizer.token(2), "ab");
  EXPECT_EQ(tokenizer.token(3), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(7));
  EXPECT_EQ(tokenizer.size(), 8);
  EXPECT_EQ(tokenizer.decode({2, 7, 99, 1}), "ab b");
  EXPECT_EQ(tokenizer.decode({2, 7, 1}, false), "ab <end> b");
}

TEST(Tokenizer, AnUnknownPartIsNamed) {
  EXPECT_EQ(refusal(letters(R"(, "normalizer": {"type": "Precompiled"})")).code, ErrorCode::kUnsupported);
  EXPECT_THAT(refusal(letters(R"(, "normalizer": {"type": "Precompiled"})")).message,
              HasSubstr("tokenizer.json: normalizer: no part 'Precompiled' in this tokenizer; there are"));
  EXPECT_THAT(
      refusal(
          letters(
              R"(, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "CharDelimiterSplit"}]})"))
          .message,
      HasSubstr("pre_tokenizer: pretokenizers: no part 'CharDelimiterSplit'"));
  EXPECT_THAT(refusal(R"({"model": {"type": "Unigram"}})").message, HasSubstr("model: no part 'Unigram'"));
  EXPECT_THAT(refusal(letters(R"(, "decoder": {"type": "CTC"})")).message,
              HasSubstr("decoder: no part 'CTC'"));
  EXPECT_THAT(refusal(letters(R"(, "post_processor": {"type": "Mine"})")).message,
              HasSubstr("no part 'Mine'"));
  EXPECT_EQ(refusal(letters(R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?<=a)b"}})")).code,
            ErrorCode::kUnsupported);
}

TEST(Tokenizer, MalformedFilesAreRefused) {
  for (
      const std::string& json : {
          std::string(""),
          std::string("[]"),
          std::string("{}"),
          std::string(R"({"model": 1})"),
          std::string(R"({"model": {"type": "BPE"}})"),
          std::string(R"({"model": {"type": "BPE", "vocab": {"a": -1}}})"),
          std::string(R"({"model": {"type": "BPE", "vocab": {"a": 1}, "merges": ["a"]}})"),
          std::string(R"({"model": {"type": "BPE", "vocab": {"a": 1}, "merges": ["a a"]}})"),
          std::string(R"({"model": {"type": "WordPiece", "vocab": {"a": 1}}})"),
          letters(R"(, "added_tokens": 3)"),
          letters(R"(, "added_tokens": [{"content": "x"}])"),
          letters(R"(, "normalizer": [])"),
          letters(
              R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "["}, "behavior": "Isolated"})"),
          letters(
              R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a{3,1}"}, "behavior": "Isolated"})"),
          letters(R"(, "post_processor": {"type": "TemplateProcessing", "single": []})"),
          letters(R"(, "post_processor": {"type": "BertProcessing", "sep": 1, "cls": 2})"),
      }) {
    const Refusal error = refusal(json);
    EXPECT_TRUE(error.code == ErrorCode::kInvalidArgument || error.code == ErrorCode::kUnsupported) << json;
    EXPECT_THAT(error.message, HasSubstr("")) << json;
  }
}

TEST(Tokenizer, AMissingFileIsSaid) {
  const testing::TemporaryFolder folder;
  const Refusal error = refusal_of([&] { Tokenizer::from_pretrained(folder.path()); });
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_THAT(error.message, HasSubstr("tokenizer.json does not exist"));
}

TEST(Tokenizer, AnExpressionThatNeverEndsIsGivenUp) {
  const Tokenizer tokenizer = Tokenizer::parse(
      letters(
          R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?:a*)*b"}, "behavior": "Isolated"})"),
      "tokenizer.json");
  EXPECT_EQ(tokenizer.encode("aab"), (std::vector<std::int64_t>{0, 2}));
  const Refusal error = refusal_of([&] { tokenizer.encode(std::string(60, 'a')); });
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("takes too long"));
}

TEST(Tokenizer, ALongWordTakesNoDeepRecursion) {
  const Tokenizer tokenizer = Tokenizer::parse(
      letters(
          R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\p{L}+"}, "behavior": "Isolated"})"),
      "tokenizer.json");
  const std::string word(300'000, 'a');
  EXPECT_EQ(tokenizer.encode(word).size(), word.size());
}

}  // namespace
}  // namespace deepscale
