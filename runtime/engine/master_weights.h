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
};

class MasterWeights {
 public:
  explicit MasterWeights(MasterPlacement placement) : placement_(std::move(placement)) {}

  // The master for the next segment, whose parameter is given, with values still to be written unless it is
  // the parameter itself; undefined where it is in the file.
  at::Tensor add_segment(const ParameterSlice& parameter);
  // Whether that is so for a parameter like this.
  bool are_parameters(const ParameterSlice& parameter) const;
  // Elements of a segment from `begin` on; flat, of any dtype and on any device. Files: Error(kSystem).
  void write(std::size_t segment, std::int64_t begin, const at::Tensor& values);

 private:
  const MasterPlacement placement_;
  std::vector<at::Tensor> masters_;
  std::vector<std::int64_t> first_elements_;  // in the file
};

}  // namespace deepscale
