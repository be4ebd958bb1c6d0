#include "runtime/engine/master_weights.h"

#include <torch/torch.h>

#include "runtime/engine/optimizer.h"

namespace deepscale {

bool MasterWeights::are_parameters(const at::Tensor& parameter) const {
  const bool same_device = !placement_.device || *placement_.device == parameter.device();
  return !placement_.file && same_device && parameter.scalar_type() == at::kFloat;
}

at::Tensor MasterWeights::add_segment(const at::Tensor& parameter) {
  at::Tensor master;
  if (placement_.file) {
    first_elements_.push_back(placement_.file->add_segment(parameter.numel()));
  } else if (are_parameters(parameter)) {
    master = parameter;
  } else {
    const c10::Device device = placement_.device.value_or(parameter.device());
    master = at::zeros(parameter.sizes(), at::TensorOptions(at::kFloat).device(device));
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
