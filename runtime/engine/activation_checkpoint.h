// Activation checkpointing: what a function computes between its inputs and its outputs is not kept for
// backward, but computed again there. Costs one more forward pass, saves the memory of its activations.
//
//   auto hidden = deepscale::checkpoint([&](const torch::Tensor& x) { return layer->forward(x); }, input);
//
// The function is any callable of tensors that returns a tensor, or a std::vector of them. It runs without
// recording at first, and again in backward, with the random state of the first time, so that dropout drops
// the same. It must compute the same both times and stay callable until backward has run. Parameters that it
// reads get their gradients; at stage 3 they are gathered anew when it runs again. With more than one rank a
// parameter must be used within one such call only, or outside of them: else Engine::backward says that it
// became ready twice.
//
// With CheckpointOptions::inputs_on_host the inputs wait for backward in host memory (cpu_checkpointing), in
// the order of their use; on the CPU it changes nothing.
//
// Threads: backward runs the function on autograd's thread. Higher derivatives through it are not supported:
// create_graph throws. What the function throws comes out of backward.
// Follows "Training Deep Nets with Sublinear Memory Cost" (Chen et al., 2016).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

namespace deepscale {

struct CheckpointOptions {
  bool inputs_on_host = false;
};

using TensorFunction = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)>;

// The plain form.
std::vector<at::Tensor> checkpoint_tensors(TensorFunction function, const std::vector<at::Tensor>& inputs,
                                           CheckpointOptions options = {});

namespace checkpoint_detail {

template <typename Function, std::size_t... Index>
auto call(Function& function, const std::vector<at::Tensor>& inputs, std::index_sequence<Index...>) {
  return function(inputs[Index]...);
}

inline std::vector<at::Tensor> as_list(at::Tensor tensor) {
  return {std::move(tensor)};
}
inline std::vector<at::Tensor> as_list(std::vector<at::Tensor> tensors) {
  return tensors;
}

}  // namespace checkpoint_detail

template <typename Function, typename... Inputs>
auto checkpoint(CheckpointOptions options, Function function, const Inputs&... inputs) {
  using Result = std::decay_t<decltype(function(inputs...))>;
  std::vector<at::Tensor> outputs = checkpoint_tensors(
      [function = std::move(function)](const std::vector<at::Tensor>& given) mutable {
        return checkpoint_detail::as_list(
            checkpoint_detail::call(function, given, std::index_sequence_for<Inputs...>()));
      },
      {inputs...}, options);
  if constexpr (std::is_same_v<Result, std::vector<at::Tensor>>) {
    return outputs;
  } else {
    return outputs.at(0);
  }
}

template <typename Function, typename... Inputs>
requires(!std::is_same_v<Function, CheckpointOptions>) auto checkpoint(Function function,
                                                                       const Inputs&... inputs) {
  return checkpoint(CheckpointOptions{}, std::move(function), inputs...);
}

}  // namespace deepscale
