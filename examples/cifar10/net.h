// The network of the CIFAR10 tutorial: two convolutions with pooling, three linear layers. An ordinary
// module.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace cifar10 {

class NetImpl : public torch::nn::Module {
 public:
  NetImpl() {
    conv1_ = register_module("conv1", torch::nn::Conv2d(3, 6, 5));
    conv2_ = register_module("conv2", torch::nn::Conv2d(6, 16, 5));
    fc1_ = register_module("fc1", torch::nn::Linear(16 * 5 * 5, 120));
    fc2_ = register_module("fc2", torch::nn::Linear(120, 84));
    fc3_ = register_module("fc3", torch::nn::Linear(84, 10));
  }

  // Images [n, 3, 32, 32] to logits [n, 10].
  torch::Tensor forward(torch::Tensor images) {
    auto features = torch::max_pool2d(torch::relu(conv1_(images)), 2);
    features = torch::max_pool2d(torch::relu(conv2_(features)), 2).flatten(1);
    return fc3_(torch::relu(fc2_(torch::relu(fc1_(features)))));
  }

 private:
  torch::nn::Conv2d conv1_{nullptr}, conv2_{nullptr};
  torch::nn::Linear fc1_{nullptr}, fc2_{nullptr}, fc3_{nullptr};
};
TORCH_MODULE(Net);

}  // namespace cifar10
