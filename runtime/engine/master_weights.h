// Where the fp32 master weights of a stage's segments live: they are the parameters themselves, or tensors on
// some device, or they lie in a file.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

#include "runtime/engine/parameter_slice.h"
#include "runtime/offload/state_file.h"

namespace deepscale {

struct MasterPlacement {
  std::optional<c10::Device> device;  // empty: the parameters', which are not in files
  std::shared_ptr<StateFile> file;    // not null: in its kMasterQuantity instead
  double offloaded_share = 1.0;       // of the elements; for the others both are as if empty
};

class MasterWeights {
 public:
  explicit MasterWeights(MasterPlacement placement) : placement_(std::move(placement)) {}

  // The master for the next segment, whose parameter is given, with values still to be written unless it is
  // the parameter itself; undefined where it is in the file.
  at::Tensor add_segment(const ParameterSlice& parameter);
  bool is_offloaded(std::size_t segment) const { return places_[segment].is_offloaded; }
  bool are_parameters(std::size_t segment) const { return places_[segment].is_parameter; }
  // Elements of a segment from `begin` on; flat, of any dtype and on any device. Files: Error(kSystem).
  void write(std::size_t segment, std::int64_t begin, const at::Tensor& values);

 private:
  struct Place {
    bool is_offloaded;
    bool is_parameter = false;
    at::Tensor tensor;
    std::int64_t first_element = 0;  // in the file, where the tensor is undefined
  };

  const MasterPlacement placement_;
  std::vector<Place> places_;
  std::int64_t numel_ = 0, offloaded_numel_ = 0;
};

}  // namespace deepscale
