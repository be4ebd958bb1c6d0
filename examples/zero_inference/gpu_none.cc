#include "comm/base/error.h"
#include "examples/zero_inference/gpu.h"

namespace zero_inference {

using namespace deepscale;

namespace {

constexpr const char* kNoCuda =
    "--device cuda: this program was built without CUDA; build with `cmake --preset full-cuda`, or "
    "leave the option out to compute on the CPU";

}  // namespace

std::string choose_gpu(const Options& options, const WorldLayout&) {
  if (options.device == "cuda") throw Error(ErrorCode::kUnsupported, kNoCuda);
  return "";
}

std::unique_ptr<Decoder> make_gpu_decoder(const std::string&, const Options&,
                                          std::shared_ptr<const ModelWeights>, std::unique_ptr<LayerSource>,
                                          const DecoderOptions&) {
  throw Error(ErrorCode::kUnsupported, kNoCuda);
}

}  // namespace zero_inference
