// Post-accumulate hooks on leaf tensors: after autograd wrote a gradient, a function gets the tensor's index.
//
// The hooks are there as long as this object. They run on the thread that autograd uses for the tensor's
// device; what they throw comes out of backward().
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace deepscale {

class GradientHooks {
 public:
  using Callback = std::function<void(int index)>;

  GradientHooks(std::vector<at::Tensor> leaves, Callback callback);
  ~GradientHooks();
  GradientHooks(const GradientHooks&) = delete;
  GradientHooks& operator=(const GradientHooks&) = delete;

 private:
  std::vector<at::Tensor> leaves_;
};

}  // namespace deepscale
