// The part of zero_inference that needs LibTorch, in builds with CUDA only: gpu_cuda.cc or gpu_none.cc
// implements it, chosen by CMake. So on the CPU the program holds no LibTorch.
#pragma once

#include <memory>
#include <string>

#include "comm/base/world_layout.h"
#include "examples/zero_inference/options.h"
#include "runtime/inference/decoder.h"
#include "runtime/inference/layer_weights.h"

namespace zero_inference {

// The GPU on which this rank computes, as "cuda:0"; empty: on the CPU. Error(kUnsupported) where `device`
// asks for a GPU and there is none.
std::string choose_gpu(const Options& options, const deepscale::WorldLayout& layout);

std::unique_ptr<deepscale::Decoder> make_gpu_decoder(const std::string& gpu, const Options& options,
                                                     std::shared_ptr<const deepscale::ModelWeights> weights,
                                                     std::unique_ptr<deepscale::LayerSource> source,
                                                     const deepscale::DecoderOptions& decoder);

}  // namespace zero_inference
