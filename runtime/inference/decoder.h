// A decoder-only language model (Llama, Mistral, Phi-3, OPT) that generates, layer by layer, with a
// preallocated cache of keys and values: on the CPU (host_decoder.h), or on a device of LibTorch's
// (runtime/device_inference).
//
// One thread calls a Decoder. Errors: kInvalidArgument for a token, a sequence or a position that does not
// exist; what the source of its layers throws.
//
// Follows: "LLaMA: Open and Efficient Foundation Language Models" (Touvron et al., 2023), "OPT" (Zhang et
// al., 2022), "RoFormer" (Su et al., 2021), "GQA" (Ainslie et al., 2023).
#pragma once

#include <chrono>
#include <cstdint>
#include <span>

#include "comm/base/dtype.h"
#include "runtime/inference/layer_source.h"
#include "runtime/pretrained/model_config.h"

namespace deepscale {

struct DecoderOptions {
  int threads = 1;
  std::int64_t sequences = 1;           // that are generated side by side
  std::int64_t positions = 0;           // of each; 0: as many as the model has
  DType cache_dtype = DType::kFloat32;  // or kBFloat16
};

// One token to be seen: its place in its sequence is the next one.
struct DecoderToken {
  std::int64_t sequence = 0;
  std::int32_t token = 0;
};

// What the layers cost in the last step, in order.
struct LayerTiming {
  std::chrono::nanoseconds start{0};  // as steady_clock has it
  std::chrono::nanoseconds wait{0};   // for the layer's weights
  std::chrono::nanoseconds compute{0};
  LayerSource::Transfer transfer;
};

struct LayerReading {
  std::int64_t bytes = 0;
  std::chrono::duration<double> time{0};
};

class Decoder {
 public:
  virtual ~Decoder() = default;

  // Sees the tokens, which may be several of one sequence in a row, and returns the logits [count, vocab]
  // behind the last token of each sequence that occurs, in the order of their first occurrence. Valid until
  // the next call.
  virtual std::span<const float> step(std::span<const DecoderToken> tokens) = 0;
  // Forgets the sequences.
  virtual void reset() = 0;

  virtual const ModelConfig& config() const = 0;
  virtual std::int64_t positions() const = 0;
  virtual std::int64_t cache_bytes() const = 0;
  virtual std::int64_t resident_weight_bytes() const = 0;
  virtual std::int64_t peak_bytes() const = 0;  // of the memory in which it computes, so far
  // Reads the matrices of all layers from where they are (memory, files, the other side of a bus), as a step
  // does, and does nothing else: the bound of a step. Between steps only.
  virtual LayerReading read_layers() = 0;
  virtual std::span<const LayerTiming> timings() const = 0;
};

}  // namespace deepscale
