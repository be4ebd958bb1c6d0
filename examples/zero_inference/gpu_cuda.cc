#include "comm/base/error.h"
#include "examples/zero_inference/gpu.h"
#include "runtime/device_inference/device_decoder.h"

namespace zero_inference {

using namespace deepscale;

std::string choose_gpu(const Options& options, const WorldLayout& layout) {
  if (options.device == "cpu") return "";
  const std::string gpu = gpu_of_rank(layout);
  if (gpu.empty() && options.device == "cuda")
    throw Error(ErrorCode::kUnsupported,
                "--device cuda: this machine shows no GPU (nvidia-smi lists them, CUDA_VISIBLE_DEVICES hides "
                "them); leave the option out to compute on the CPU");
  return gpu;
}

std::unique_ptr<Decoder> make_gpu_decoder(const std::string& gpu, const Options& options,
                                          std::shared_ptr<const ModelWeights> weights,
                                          std::unique_ptr<LayerSource> source,
                                          const DecoderOptions& decoder) {
  return make_device_decoder(std::move(weights), std::move(source),
                             {.device = gpu,
                              .sequences = decoder.sequences,
                              .positions = decoder.positions,
                              .dtype = {},
                              .keeps_weights_on_host = options.offloads_to_cpu || options.offloads_to_disk,
                              .pins_weights = options.offloads_to_cpu && options.pins_memory,
                              .keeps_cache_on_host = options.offloads_cache,
                              .times_layers = options.profiles || !options.trace.empty()});
}

}  // namespace zero_inference
