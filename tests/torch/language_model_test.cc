// Language models against what transformers computes with the same files: logits, padding, a cache, bf16;
// saving and loading; and what is wrong with a folder said in one sentence.
#include "runtime/models/language_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "comm/base/error.h"
#include "runtime/models/layers.h"
#include "runtime/models/next_token_loss.h"
#include "runtime/models/pretrained.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/golden_model.h"
#include "tests/torch/growing_cache.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr double kTolerance = 1e-4;

std::shared_ptr<LanguageModel> load(const fs::path& folder, at::ScalarType dtype = at::kFloat) {
  auto model = language_model_from_pretrained(folder, {.dtype = dtype});
  model->eval();
  return model;
}

TEST(TiedEmbedding, GradientsAreThoseOfALinearLayer) {
  torch::manual_seed(3);
  const at::Tensor values = at::randn({7, 4}), input = at::randn({2, 3, 4}), indices = at::tensor({6, 1, 1});
  const auto gradients = [&](const auto& scores_of, bool is_frozen) {
    Embedding embedding(7, 4);
    embedding.weight.set_data(values.clone());
    embedding.weight.set_requires_grad(!is_frozen);
    const at::Tensor hidden = input.clone().set_requires_grad(true);
    (scores_of(embedding, hidden).square().sum() + 3 * embedding.forward(indices).sum() + hidden.sum())
        .backward();
    return std::pair(hidden.grad(), embedding.weight.grad());
  };
  for (const bool is_frozen : {false, true}) {
    const auto ours =
        gradients([](auto& tied, const auto& hidden) { return tied.scores(hidden); }, is_frozen);
    const auto expected =
        gradients([](auto& tied, const auto& hidden) { return at::linear(hidden, tied.weight); }, is_frozen);
    EXPECT_TRUE(at::allclose(ours.first, expected.first));
    EXPECT_EQ(ours.second.defined(), !is_frozen);
    EXPECT_TRUE(is_frozen || at::allclose(ours.second, expected.second));
  }
}

class Language : public ::testing::TestWithParam<const char*> {
 protected:
  const GoldenModel golden_{GetParam()};
  const at::Tensor input_ids_ = golden_.read("input_ids");
  const at::Tensor expected_ = golden_.read("logits");
  const at::NoGradGuard no_grad_;
};

TEST_P(Language, LogitsAreThoseOfTransformers) {
  EXPECT_LT(largest_difference(load(golden_.folder)->forward(input_ids_), expected_), kTolerance);
}

TEST_P(Language, PaddingOnTheRightChangesNothing) {
  const at::Tensor logits = load(golden_.folder)->forward(input_ids_, golden_.read("attention_mask"));
  EXPECT_LT(largest_difference(logits[0], expected_[0]), kTolerance);
  EXPECT_LT(largest_difference(logits[1].narrow(0, 0, 9), golden_.read("padded_logits")), kTolerance);
}

TEST_P(Language, PaddingOnTheLeftShiftsThePositions) {
  const auto model = load(golden_.folder);
  const at::Tensor short_ids = input_ids_.narrow(1, 0, 5);  // Phi-3's rotary scaling changes after 8
  const at::Tensor padding = at::full({2, 3}, 1, at::kLong);
  const at::Tensor mask = at::cat({at::zeros({2, 3}, at::kLong), at::ones({2, 5}, at::kLong)}, 1);
  const at::Tensor logits = model->forward(at::cat({padding, short_ids}, 1), mask);
  EXPECT_LT(largest_difference(logits.narrow(1, 3, 5), model->forward(short_ids)), kTolerance);
  EXPECT_TRUE(logits.isfinite().all().item<bool>());
}

TEST_P(Language, InPartsThroughACacheIsTheSame) {
  const auto model = load(golden_.folder);
  // The kind of long rotary scaling is chosen by the length of a pass, so all parts are in reach of one kind.
  const std::int64_t length = std::min<std::int64_t>(input_ids_.size(1), 8);
  const at::Tensor whole = model->forward(input_ids_.narrow(1, 0, length));
  GrowingCache cache(model->config().layers);
  for (const auto& [first, count] : {std::pair{0, 3}, {3, 1}, {4, 1}, {5, 3}}) {
    const at::Tensor logits = model->forward_cached(input_ids_.narrow(1, first, count), cache);
    EXPECT_LT(largest_difference(logits, whole.narrow(1, first + count - 1, 1)), kTolerance) << first;
  }
}

TEST_P(Language, InBFloat16IsTheSameUpToRounding) {
  const auto model = language_model_from_pretrained(golden_.folder);
  model->eval();
  const at::Tensor logits = model->forward(input_ids_);
  EXPECT_EQ(logits.scalar_type(), at::kBFloat16) << "the type of the file";
  EXPECT_LT((logits.to(at::kFloat) - expected_).norm().item<double>(),
            0.05 * expected_.norm().item<double>());
}

TEST_P(Language, WhatWasSavedLoads) {
  const TemporaryFolder folder;
  const auto model = load(golden_.folder);
  for (at::Tensor& parameter : model->parameters()) parameter.mul_(0.5);
  const at::Tensor logits = model->forward(input_ids_);
  EXPECT_GT(largest_difference(logits, expected_), 0.01);
  save_pretrained(*model, folder.path() / "new" / "model");
  const auto loaded = language_model_from_pretrained(folder.path() / "new" / "model");
  loaded->eval();
  EXPECT_TRUE(loaded->forward(input_ids_).equal(logits)) << "in fp32, as it was saved";
  EXPECT_LT(largest_difference(load(golden_.folder)->forward(input_ids_), expected_), kTolerance)
      << "the first file is as it was";
}

TEST_P(Language, ItsLossIsThatOfAllLogits) {
  const auto model = load(golden_.folder);
  at::Tensor labels = input_ids_.clone();
  labels.narrow(1, 0, 3).fill_(kIgnoredLabel);
  const double expected = next_token_loss(expected_, labels).item<double>();
  NextTokenLoss with_loss(model);
  EXPECT_NEAR(with_loss.forward(input_ids_, labels).item<double>(), expected, 1e-4);
  labels.fill_(kIgnoredLabel);
  EXPECT_EQ(refusal_of([&] { with_loss.forward(input_ids_, labels); }).code, ErrorCode::kInvalidArgument);
}

TEST_P(Language, TrainingLowersTheLoss) {
  at::AutoGradMode gradients(true);
  torch::manual_seed(3);
  const ModelConfig config = read_model_config(golden_.folder);
  const auto model = make_language_model(config);
  initialize_weights(*model, config);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(1e-2));
  std::vector<double> losses;
  for (int step = 0; step < 60; ++step) {
    const at::Tensor loss = next_token_loss(model->forward(input_ids_), input_ids_);
    losses.push_back(loss.item<double>());
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }
  EXPECT_NEAR(losses.front(), std::log(64.0), 0.3);
  EXPECT_LT(losses.back(), 0.7 * losses.front());
}

INSTANTIATE_TEST_SUITE_P(Models, Language,
                         ::testing::Values("llama", "llama_untied", "mistral", "phi3", "opt", "opt_350m",
                                           "gpt2"),
                         [](const auto& info) { return std::string(info.param); });

TEST(LanguageModel, IgnoredLabelsDoNotCount) {
  const at::Tensor logits = at::randn({1, 4, 8});
  const at::Tensor some =
      at::tensor({kIgnoredLabel, kIgnoredLabel, 5L, kIgnoredLabel}, at::kLong).unsqueeze(0);
  const double expected = -at::log_softmax(logits, -1)[0][1][5].item<double>();
  EXPECT_NEAR(next_token_loss(logits, some).item<double>(), expected, 1e-6);
}

TEST(LanguageModel, TooManyTokensAndUnknownTokensAreRefused) {
  const auto model = load(GoldenModel("llama").folder);
  Refusal error = refusal_of([&] { model->forward(at::ones({1, 65}, at::kLong)); });
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("65 tokens are more than the 64 positions"));
  error = refusal_of([&] { model->forward(at::full({1, 2}, 64, at::kLong)); });
  EXPECT_THAT(error.message, HasSubstr("token 64 is outside the vocabulary of 64"));
}

// A folder that is like the golden one of Llama, but for one thing.
class BrokenFolder : public ::testing::Test {
 protected:
  BrokenFolder() {
    fs::copy_file(golden_.folder / "config.json", folder_.path() / "config.json");
    fs::copy_file(golden_.folder / "model.safetensors", folder_.path() / "model.safetensors");
  }
  Refusal refusal() const {
    return refusal_of([this] { language_model_from_pretrained(folder_.path()); });
  }
  void replace_in_config(const std::string& from, const std::string& to) const {
    std::ifstream file(folder_.path() / "config.json");
    std::string text{std::istreambuf_iterator<char>(file), {}};
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos);
    folder_.write("config.json", text.replace(at, from.size(), to));
  }

  const GoldenModel golden_{"llama"};
  const TemporaryFolder folder_;
};

TEST_F(BrokenFolder, NoConfigIsSaid) {
  fs::remove(folder_.path() / "config.json");
  EXPECT_EQ(refusal().code, ErrorCode::kNotFound);
  EXPECT_THAT(refusal().message, HasSubstr("config.json does not exist"));
}

TEST_F(BrokenFolder, NoWeightsAreSaid) {
  fs::remove(folder_.path() / "model.safetensors");
  EXPECT_EQ(refusal().code, ErrorCode::kNotFound);
  EXPECT_THAT(refusal().message, HasSubstr("has neither model.safetensors"));
}

TEST_F(BrokenFolder, CutWeightsAreSaid) {
  fs::resize_file(folder_.path() / "model.safetensors", 9000);
  EXPECT_EQ(refusal().code, ErrorCode::kProtocol);
  EXPECT_THAT(refusal().message, HasSubstr("model.safetensors: the description of tensor"));
}

TEST_F(BrokenFolder, AnotherArchitectureIsSaid) {
  replace_in_config("\"llama\"", "\"mamba\"");
  EXPECT_EQ(refusal().code, ErrorCode::kUnsupported);
  EXPECT_THAT(refusal().message, HasSubstr("no architecture 'mamba' here; there are bert, gpt2, llama"));
}

TEST_F(BrokenFolder, WeightsOfAnotherModelAreSaid) {
  replace_in_config("\"intermediate_size\": 24", "\"intermediate_size\": 32");
  EXPECT_EQ(refusal().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refusal().message,
              HasSubstr("mlp.gate_proj.weight' is 24 x 16, and the model of the configuration has 32 x 16"));
  replace_in_config("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
  replace_in_config("\"intermediate_size\": 32", "\"intermediate_size\": 24");
  EXPECT_THAT(refusal().message, HasSubstr("its weights have no 'lm_head.weight'"));
}

}  // namespace
}  // namespace deepscale::testing
