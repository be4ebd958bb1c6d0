// A Decoder that computes on the CPU. Activations are fp32; weights stay as they are stored.
//
// It shares its work among the threads of its own team. After an error of the source the cache of the tokens
// in flight is undefined.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/inference/decoder.h"
#include "runtime/inference/key_value_cache.h"
#include "runtime/inference/layer_source.h"
#include "runtime/inference/layer_weights.h"
#include "runtime/inference/step_tokens.h"
#include "runtime/inference/thread_team.h"

namespace deepscale {

class HostDecoder final : public Decoder {
 public:
  HostDecoder(std::shared_ptr<const ModelWeights> weights, std::unique_ptr<LayerSource> source,
              const DecoderOptions& options);
  ~HostDecoder() override;

  std::span<const float> step(std::span<const DecoderToken> tokens) override;
  void reset() override { tokens_.reset(); }

  const ModelConfig& config() const override { return weights_->config(); }
  std::int64_t positions() const override { return tokens_.positions(); }
  std::int64_t cache_bytes() const override { return cache_.shape().bytes(); }
  std::int64_t resident_weight_bytes() const override;
  std::int64_t peak_bytes() const override;
  LayerReading read_layers() override;
  std::span<const LayerTiming> timings() const override { return timings_; }

 private:
  struct Activations;

  void embed();
  void read(std::span<const std::byte> memory);
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
  StepTokens tokens_;
  KeyValueCache cache_;
  ThreadTeam team_;
  RopeTable rope_;
  std::unique_ptr<Activations> activations_;
  std::vector<LayerTiming> timings_;
};

}  // namespace deepscale
