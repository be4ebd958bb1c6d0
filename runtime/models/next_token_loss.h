// A language model together with its loss, as the module that an Engine trains.
//
//   auto engine = initialize(std::make_shared<NextTokenLoss>(model), "ds_config.json");
//   const at::Tensor loss = engine->forward(input_ids, labels);
//
// The head, a large part of the work where the vocabulary is large, computes scores only for the tokens that
// have a label. Padding must be on the right; it then needs no mask, since no token sees those after it.
//
// One thread. Failures are the model's; Error(kInvalidArgument) for a batch without a single label.
#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <utility>

#include "runtime/models/language_model.h"

namespace deepscale {

class NextTokenLoss : public torch::nn::Module {
 public:
  explicit NextTokenLoss(std::shared_ptr<LanguageModel> model)
      : model_(register_module("language_model", std::move(model))) {}

  // The same as next_token_loss(model->forward(input_ids), labels): both int64 [batch, sequence], and
  // kIgnoredLabel where a token does not count.
  at::Tensor forward(at::Tensor input_ids, at::Tensor labels);

 private:
  std::shared_ptr<LanguageModel> model_;
};

}  // namespace deepscale
