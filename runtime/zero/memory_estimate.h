// Bytes of model states that each rank holds: what ZeRO's formula promises before anything is allocated.
//
// With Psi parameters on N ranks, mixed precision and Adam (K = 12: fp32 master weight, momentum, variance),
// per rank:
//
//   stage 0   (2 + 2 + K) Psi              stage 2   2 Psi + (2 + K) Psi / N
//   stage 1   (2 + 2) Psi + K Psi / N      stage 3   (2 + 2 + K) Psi / N
//
// Stage 1 keeps whole gradients only to accumulate them over micro batches; else it takes what stage 2 takes.
// The same with 4-byte parameters and gradients and no master weight in fp32 training. Activations, buffers
// of the model, staging buffers of communication and the padding of a PartitionPlan come on top. Pure
// functions. "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (Rajbhandari et al.,
// 2020), section 3 and figure 1.
#pragma once

#include <cstdint>
#include <optional>

#include "comm/base/dtype.h"

namespace deepscale {

struct ModelStateOptions {
  std::int64_t parameter_numel = 0;  // of trainable parameters, the whole model
  int stage = 0;
  int world_size = 1;
  DType dtype = DType::kFloat32;        // of parameters
  std::optional<DType> gradient_dtype;  // empty: dtype
  bool accumulates_gradients = true;    // over several micro batches
  int moments = 2;  // fp32 values that the optimizer keeps per parameter: Adam 2, Lion or SGD with momentum 1
};

struct ModelStateBytes {
  std::int64_t parameters = 0;
  std::int64_t gradients = 0;
  std::int64_t optimizer_state = 0;  // moments, and fp32 master weights where dtype is 16-bit

  std::int64_t total() const { return parameters + gradients + optimizer_state; }
};

// Of one rank; a part that does not divide evenly is rounded up. Error(kInvalidArgument) for a stage outside
// 0..3, a world size below 1, a negative count or a type that is not floating-point.
ModelStateBytes estimate_model_states(const ModelStateOptions& options);

// Where they lie: on the rank's device (without one, in the host's memory) and offloaded.
struct PlacementOptions {
  bool offload_optimizer = false;               // masters and moments
  bool offload_parameters = false;              // the shards of stage 3
  std::int64_t max_live_numel = 1'000'000'000;  // gathered at a time at stage 3, at most
  std::int64_t largest_layer_numel = 0;         // what one operator needs is gathered in any case
};

struct PlacedBytes {
  std::int64_t device = 0;
  std::int64_t host = 0;
};

// Of one rank; stage 3's device bytes include what is gathered when the most is. Offloading changes nothing
// at stage 0, and offload_parameters nothing below stage 3. Errors as above.
PlacedBytes place_model_states(const ModelStateOptions& options, const PlacementOptions& placement);

}  // namespace deepscale
