#include "runtime/engine/master_weights.h"

#include <torch/torch.h>

#include "runtime/engine/optimizer.h"

namespace deepscale {

bool MasterWeights::are_parameters(const ParameterSlice& parameter) const {
  if (placement_.file || parameter.is_in_file() || parameter.dtype() != at::kFloat) return false;
  return !placement_.device || parameter.is_on(*placement_.device);
}

at::Tensor MasterWeights::add_segment(const ParameterSlice& parameter) {
  at::Tensor master;
  if (placement_.file) {
    first_elements_.push_back(placement_.file->add_segment(parameter.numel()));
  } else if (are_parameters(parameter)) {
    master = parameter.tensor();
  } else {
    const at::Tensor& like = parameter.tensor();
    const c10::Device device = placement_.device ? *placement_.device : like.device();
    const std::vector<std::int64_t> shape =
        like.defined() ? like.sizes().vec() : std::vector{parameter.numel()};
    master = at::zeros(shape, at::TensorOptions(at::kFloat).device(device));
  }
  masters_.push_back(master);
  return master;
}

void MasterWeights::write(std::size_t segment, std::int64_t begin, const at::Tensor& values) {
  if (!placement_.file) {
    masters_[segment].view({-1}).narrow(0, begin, values.numel()).copy_(values.view({-1}));
    return;
  }
  const at::Tensor flat = values.to(at::kCPU, at::kFloat).contiguous();
  placement_.file->write(kMasterQuantity, first_elements_[segment] + begin, flat.numel(),
                         flat.const_data_ptr<float>());
}

}  // namespace deepscale
