#include "runtime/models/log_probabilities.h"

#include <torch/torch.h>

#include <algorithm>

namespace deepscale {
namespace {

at::Tensor log_softmax_of(const at::Tensor& scores) {
  return at::_log_softmax(scores.to(at::kFloat), 1, /*half_to_float=*/false);
}

// `use(begin, rows)` for block after block, each small enough for a cache.
template <typename Use>
void for_blocks(const at::Tensor& scores, const Use& use) {
  constexpr std::int64_t kBlockNumel = 1 << 19;
  const std::int64_t rows =
      std::max<std::int64_t>(1, kBlockNumel / std::max<std::int64_t>(1, scores.size(1)));
  for (std::int64_t begin = 0; begin < scores.size(0); begin += rows)
    use(begin, std::min(rows, scores.size(0) - begin));
}

struct ByBlocks : torch::autograd::Function<ByBlocks> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& scores,
                            const at::Tensor& classes) {
    context->save_for_backward({scores, classes});
    const at::Tensor result = at::empty({scores.size(0)}, scores.options().dtype(at::kFloat));
    for_blocks(scores, [&](std::int64_t begin, std::int64_t rows) {
      const at::Tensor all = log_softmax_of(scores.narrow(0, begin, rows));
      result.narrow(0, begin, rows)
          .copy_(all.gather(1, classes.narrow(0, begin, rows).unsqueeze(1)).squeeze(1));
    });
    return result;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &scores = saved[0], &classes = saved[1];
    const at::Tensor of_scores = at::empty_like(scores, at::MemoryFormat::Contiguous);
    for_blocks(scores, [&](std::int64_t begin, std::int64_t rows) {
      const at::Tensor all = log_softmax_of(scores.narrow(0, begin, rows));
      const at::Tensor of_all = at::zeros_like(all).scatter_(
          1, classes.narrow(0, begin, rows).unsqueeze(1), gradients[0].narrow(0, begin, rows).unsqueeze(1));
      of_scores.narrow(0, begin, rows).copy_(at::_log_softmax_backward_data(of_all, all, 1, at::kFloat));
    });
    return {of_scores, at::Tensor()};
  }
};

}  // namespace

at::Tensor log_probabilities(const at::Tensor& scores, const at::Tensor& classes) {
  if (scores.is_cpu()) return ByBlocks::apply(scores, classes);
  return at::log_softmax(scores.to(at::kFloat), 1).gather(1, classes.unsqueeze(1)).squeeze(1);
}

at::Tensor mean_cross_entropy(const at::Tensor& scores, const at::Tensor& classes) {
  return at::nll_loss(log_probabilities(scores, classes).unsqueeze(1), at::zeros_like(classes));
}

}  // namespace deepscale
