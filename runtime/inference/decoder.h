// A decoder-only language model (Llama, Mistral, Phi-3, OPT) that generates on the CPU, layer by layer from a
// LayerSource. Activations are fp32; weights stay as they are stored; the cache of keys and values is
// preallocated.
//
// One thread calls a Decoder; it shares its work among the threads of its own team. Errors: kInvalidArgument
// for a token, a sequence or a position that does not exist; what the source throws. After an error of the
// source the cache of the tokens in flight is undefined.
//
// Follows: "LLaMA: Open and Efficient Foundation Language Models" (Touvron et al., 2023), "OPT" (Zhang et
// al., 2022), "RoFormer" (Su et al., 2021), "GQA" (Ainslie et al., 2023).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "comm/base/dtype.h"
#include "runtime/inference/key_value_cache.h"
#include "runtime/inference/layer_source.h"
#include "runtime/inference/layer_weights.h"
#include "runtime/inference/thread_team.h"

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

class Decoder {
 public:
  Decoder(std::shared_ptr<const ModelWeights> weights, std::unique_ptr<LayerSource> source,
          const DecoderOptions& options);
  ~Decoder();

  // Sees the tokens, which may be several of one sequence in a row, and returns the logits [count, vocab]
  // behind the last token of each sequence that occurs, in the order of their first occurrence. Valid until
  // the next call.
  std::span<const float> step(std::span<const DecoderToken> tokens);

  // Forgets the sequences.
  void reset();

  const ModelConfig& config() const { return weights_->config(); }
  const KeyValueCache& cache() const { return cache_; }
  std::int64_t positions() const { return cache_.shape().positions; }
  std::int64_t resident_weight_bytes() const;
  std::span<const LayerTiming> timings() const { return timings_; }

 private:
  struct Activations;
  struct Token;

  void place_tokens(std::span<const DecoderToken> tokens);
  void embed();
  void run_layer(std::int64_t layer, const LayerMatrices& matrices);
  void attend(std::int64_t layer);
  void attend_head(std::int64_t layer, std::int64_t token, std::int64_t head, std::vector<float>& scores);
  void rotate(float* heads, std::int64_t count, std::int64_t position) const;
  void norm(const Norm& norm, const float* input, float* output) const;
  void product(const WeightMatrix& matrix, const std::vector<float>& bias, std::span<const float> input,
               std::vector<float>& output);
  // The team works on parts of the values; the other argument is where the part begins.
  void in_parts(std::vector<float>& values, const std::function<void(std::span<float>, std::int64_t)>& work);

  std::shared_ptr<const ModelWeights> weights_;
  std::unique_ptr<LayerSource> source_;
  OuterWeights outer_;
  std::vector<LayerVectors> vectors_;
  KeyValueCache cache_;
  ThreadTeam team_;
  std::vector<std::int64_t> lengths_;   // positions seen, by sequence
  std::vector<float> cosines_, sines_;  // [positions, rotated / 2]
  std::int64_t rotated_ = 0;            // elements of a head that are rotated
  std::vector<Token> tokens_;           // of the step
  std::unique_ptr<Activations> activations_;
  std::vector<LayerTiming> timings_;
};

}  // namespace deepscale
