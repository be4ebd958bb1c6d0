// A Decoder that computes with LibTorch on a device: a GPU, or the CPU as any other device.
//
// Weights are on the device, or stay on the host and are copied layer by layer, one layer ahead of its use,
// on a stream of their own; so a step costs the larger of copying and computing. Activations have the dtype
// of the stored weights; quantised layers travel and stay quantised, and one matrix at a time is widened
// where it is used. The cache of keys and values is on the device, or on the host and brought for each layer.
//
// Threads and errors as of Decoder; c10::Error for what the device cannot do, first of all memory. After an
// error of the device or of the source no further step is possible.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "comm/base/dtype.h"
#include "comm/base/world_layout.h"
#include "runtime/inference/decoder.h"
#include "runtime/inference/layer_weights.h"

namespace deepscale {

struct DeviceDecoderOptions {
  std::string device = "cpu";  // as LibTorch writes it: "cuda:0"
  std::int64_t sequences = 1;  // as of DecoderOptions
  std::int64_t positions = 0;
  std::optional<DType> dtype;  // of activations and cache; unset: that of the stored weights
  bool keeps_weights_on_host = false;
  bool pins_weights = false;  // with that: a page-locked copy of all layers, from which copies do not wait
  bool keeps_cache_on_host = false;
  bool times_layers = false;  // else timings() is empty
};

std::unique_ptr<Decoder> make_device_decoder(std::shared_ptr<const ModelWeights> weights,
                                             std::unique_ptr<LayerSource> source,
                                             const DeviceDecoderOptions& options);

// The GPU of this local rank, as "cuda:0"; empty where the build or the machine has none.
std::string gpu_of_rank(const WorldLayout& layout);

}  // namespace deepscale
