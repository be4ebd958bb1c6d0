#include "runtime/engine/gradient_hooks.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>

namespace deepscale {

namespace {

struct IndexHook : torch::autograd::PostAccumulateGradHook {
  IndexHook(int index, std::shared_ptr<GradientHooks::Callback> callback)
      : index(index), callback(std::move(callback)) {}
  void operator()(const torch::autograd::Variable&) override { (*callback)(index); }

  int index;
  std::shared_ptr<GradientHooks::Callback> callback;
};

}  // namespace

GradientHooks::GradientHooks(std::vector<at::Tensor> leaves, Callback callback) : leaves_(std::move(leaves)) {
  const auto shared = std::make_shared<Callback>(std::move(callback));
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(leaves_[i],
                                                   std::make_unique<IndexHook>(static_cast<int>(i), shared));
  }
}

GradientHooks::~GradientHooks() {
  for (const at::Tensor& leaf : leaves_) torch::autograd::impl::set_post_acc_grad_hooks(leaf, nullptr);
}

}  // namespace deepscale
