#include "runtime/models/tied_embedding.h"

#include <ATen/SequenceNumber.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/torch.h>

#include <type_traits>
#include <utility>

#include "runtime/models/linear_product.h"

namespace deepscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Of a row that is used more than once the terms are added up first, in the order and with the rounding of
// at::embedding's own gradient.
struct Rows : torch::autograd::Function<Rows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& weight, const at::Tensor& indices,
                            std::int64_t padding_row) {
    context->save_for_backward({indices});
    context->saved_data["rows"] = weight.size(0);
    context->saved_data["padding_row"] = padding_row;
    return at::embedding(weight, indices, padding_row);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const at::Tensor& of_output = gradients[0];
    const auto [used, places] =
        at::_unique(context->get_saved_variables()[0], /*sorted=*/true, /*return_inverse=*/true);
    const at::Tensor is_padding = used.eq(context->saved_data["padding_row"].toInt()).unsqueeze(1);
    const at::Tensor of_used = at::embedding_dense_backward(of_output, places, used.size(0), -1, false);
    const at::Tensor of_weight = at::sparse_coo_tensor(
        used.unsqueeze(0), of_used.masked_fill(is_padding, 0),
        {context->saved_data["rows"].toInt(), of_output.size(-1)}, of_output.options().layout(at::kSparse),
        /*is_coalesced=*/true);
    return {of_weight, at::Tensor(), at::Tensor()};
  }
};

// hidden * weight^T. The gradient of the weight is not a view, as at::linear's can be: autograd adds in place
// only to a tensor that is its own.
struct Scores : torch::autograd::Function<Scores> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& weight) {
    context->save_for_backward({hidden, weight});
    return linear_product(hidden, weight);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &hidden = saved[0], &weight = saved[1], &scores = gradients[0];
    at::Tensor of_hidden, of_weight;
    if (context->needs_input_grad(0)) of_hidden = linear_product(scores, weight.t());
    if (context->needs_input_grad(1)) {
      const at::Tensor rows = scores.reshape({-1, scores.size(-1)});
      of_weight = linear_product(rows.t(), hidden.reshape({-1, hidden.size(-1)}).t());
    }
    return {of_hidden, of_weight};
  }
};

// Hands a gradient on as it is. Autograd runs what is ready in the order of sequence numbers, so with the
// least one it comes last: a dense gradient is added in place to a sparse one that is there, but not the
// other way round.
struct PassLast : torch::autograd::Node {
  PassLast() : Node(/*sequence_nr=*/0) {}
  variable_list apply(variable_list&& gradients) override { return std::move(gradients); }
};

// A std::shared_ptr up to LibTorch 2.11 at least, a c10::intrusive_ptr in 2.15.
using NodePointer = decltype(torch::autograd::Edge::function);

template <typename Pointer>
Pointer make_pass_last() {
  if constexpr (std::is_constructible_v<Pointer, torch::autograd::Node*>) {
    return Pointer(new PassLast);
  } else {
    return Pointer::unsafe_steal_from_new(new PassLast);
  }
}

at::Tensor with_gradient_last(const at::Tensor& weight) {
  if (!weight.requires_grad() || !at::GradMode::is_enabled()) return weight;
  const NodePointer node = make_pass_last<NodePointer>();
  node->set_next_edges(torch::autograd::collect_next_edges(weight));
  const at::Tensor same = weight.detach();
  torch::autograd::set_history(same, node);
  return same;
}

}  // namespace

at::Tensor tied_rows(const at::Tensor& weight, const at::Tensor& indices, std::int64_t padding_row) {
  at::sequence_number::get_and_increment();  // the first one, 0, is PassLast's
  return Rows::apply(weight, indices, padding_row);
}

at::Tensor tied_scores(const at::Tensor& hidden, const at::Tensor& weight) {
  return Scores::apply(hidden, with_gradient_last(weight));
}

}  // namespace deepscale
