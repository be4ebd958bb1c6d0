#include "runtime/engine/master_weights.h"

#include <torch/torch.h>

#include "runtime/engine/optimizer.h"

namespace deepscale {

// Spread evenly: as many elements as the share allows have been offloaded after each segment.
at::Tensor MasterWeights::add_segment(const ParameterSlice& parameter) {
  numel_ += parameter.numel();
  const auto allowed = placement_.offloaded_share * static_cast<double>(numel_);
  Place place{.is_offloaded = static_cast<double>(offloaded_numel_ + parameter.numel()) <= allowed};
  if (place.is_offloaded) offloaded_numel_ += parameter.numel();
  const bool is_in_file = place.is_offloaded && placement_.file;
  const auto device = place.is_offloaded ? placement_.device : std::nullopt;
  place.is_parameter = !is_in_file && !parameter.is_in_file() && parameter.dtype() == at::kFloat &&
                       (!device || parameter.is_on(*device));
  if (is_in_file) {
    place.first_element = placement_.file->add_segment(parameter.numel());
  } else if (place.is_parameter) {
    place.tensor = parameter.tensor();
  } else {
    const at::Tensor& like = parameter.tensor();
    const c10::Device where = device ? *device : like.defined() ? like.device() : c10::Device(c10::kCPU);
    const std::vector<std::int64_t> shape =
        like.defined() ? like.sizes().vec() : std::vector{parameter.numel()};
    place.tensor = at::zeros(shape, at::TensorOptions(at::kFloat).device(where));
  }
  places_.push_back(place);
  return place.tensor;
}

void MasterWeights::write(std::size_t segment, std::int64_t begin, const at::Tensor& values) {
  const Place& place = places_[segment];
  if (place.tensor.defined()) {
    place.tensor.view({-1}).narrow(0, begin, values.numel()).copy_(values.view({-1}));
    return;
  }
  const at::Tensor flat = values.to(at::kCPU, at::kFloat).contiguous();
  placement_.file->write(kMasterQuantity, place.first_element + begin, flat.numel(),
                         flat.const_data_ptr<float>());
}

}  // namespace deepscale
