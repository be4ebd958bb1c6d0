#include "runtime/models/next_token_loss.h"

#include <torch/torch.h>

#include "comm/base/error.h"
#include "runtime/models/log_probabilities.h"

namespace deepscale {

at::Tensor NextTokenLoss::forward(at::Tensor input_ids, at::Tensor labels) {
  const std::int64_t predicted = input_ids.size(1) - 1;
  const at::Tensor targets = labels.narrow(1, 1, predicted).reshape({-1}).to(input_ids.device());
  const at::Tensor counted = targets.ne(kIgnoredLabel).nonzero().squeeze(1);
  if (counted.numel() == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "no token of the batch has a label: nothing is to be learned from it");
  }
  ForwardContext context;
  at::Tensor hidden = model_->embed(input_ids, context);
  for (std::int64_t i = 0; i < model_->config().layers; ++i) hidden = model_->run_layer(i, hidden, context);
  const at::Tensor places =
      hidden.narrow(1, 0, predicted).reshape({-1, hidden.size(2)}).index_select(0, counted);
  const at::Tensor logits = model_->head(places.unsqueeze(0)).squeeze(0);
  return mean_cross_entropy(logits, targets.index_select(0, counted));
}

}  // namespace deepscale
