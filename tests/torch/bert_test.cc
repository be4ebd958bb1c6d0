// BERT against what transformers computes with the same file, and the loss that looks at masked words alone.
#include "runtime/models/bert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/golden_model.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

constexpr double kTolerance = 1e-4;

class BertModel : public ::testing::Test {
 protected:
  BertModel() { model_->eval(); }

  const GoldenModel golden_{"bert"};
  const at::Tensor input_ids_ = golden_.read("input_ids");
  const std::shared_ptr<BertForMaskedLm> model_ =
      masked_lm_from_pretrained(golden_.folder, {.dtype = at::kFloat});
  const at::NoGradGuard no_grad_;
};

TEST_F(BertModel, LogitsAreThoseOfTransformers) {
  EXPECT_LT(largest_difference(model_->forward(input_ids_), golden_.read("logits")), kTolerance);
}

TEST_F(BertModel, PaddingIsNotAttendedTo) {
  const at::Tensor logits = model_->forward(input_ids_, golden_.read("attention_mask"));
  EXPECT_LT(largest_difference(logits[0], golden_.read("logits")[0]), kTolerance);
  EXPECT_LT(largest_difference(logits[1].narrow(0, 0, 9), golden_.read("padded_logits")), kTolerance);
}

TEST_F(BertModel, TheLossIsThatOfTheMaskedWords) {
  at::Tensor labels = at::full_like(input_ids_, kIgnoredLabel);
  labels[0][3] = 17;
  labels[1][0] = 5;
  const at::Tensor scores = at::log_softmax(golden_.read("logits"), -1);
  const double expected = -(scores[0][3][17] + scores[1][0][5]).item<double>() / 2.0;
  EXPECT_NEAR(model_->forward(input_ids_, {}, labels).item<double>(), expected, kTolerance);
}

TEST_F(BertModel, TheBodyAloneLoadsFromTheSameFile) {
  const auto body = bert_from_pretrained(golden_.folder, {.dtype = at::kFloat});
  body->eval();
  EXPECT_EQ(body->forward(input_ids_).sizes(), (std::vector<std::int64_t>{2, 12, 16}));
}

TEST_F(BertModel, WhatWasSavedLoads) {
  const TemporaryFolder folder;
  save_pretrained(*model_, model_->config(), folder.path());
  const auto loaded = masked_lm_from_pretrained(folder.path());
  loaded->eval();
  EXPECT_TRUE(loaded->forward(input_ids_).equal(model_->forward(input_ids_)));
}

TEST(Bert, AnotherArchitectureIsSaid) {
  const Refusal error = refusal_of([] { masked_lm_from_pretrained(GoldenModel("llama").folder); });
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr("holds a Llama model, and this needs a BERT"));
}

}  // namespace
}  // namespace deepscale::testing
