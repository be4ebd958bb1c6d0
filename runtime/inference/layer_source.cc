#include "runtime/inference/layer_source.h"

#include <utility>
#include <vector>

#include "runtime/inference/quantize.h"

namespace deepscale {

namespace {

class MappedSource : public LayerSource {
 public:
  explicit MappedSource(std::shared_ptr<const ModelWeights> weights) : weights_(std::move(weights)) {
    for (std::int64_t layer = 0; layer < weights_->config().layers; ++layer) {
      LayerMatrices& matrices = layers_.emplace_back();
      const auto places = weights_->layer_places(layer);
      for (int i = 0; i < kLayerMatrices; ++i) {
        matrices[i] = places[i].matrix;
        bytes_ += places[i].view.bytes;
      }
    }
  }
  const LayerMatrices& acquire(std::int64_t layer) override { return layers_[layer]; }
  std::int64_t resident_bytes() const override { return bytes_; }

 private:
  std::shared_ptr<const ModelWeights> weights_;  // keeps the files mapped
  std::vector<LayerMatrices> layers_;
  std::int64_t bytes_ = 0;
};

class QuantizedSource : public LayerSource {
 public:
  QuantizedSource(const ModelWeights& weights, int bits, std::int64_t group_size, int threads) {
    for (std::int64_t layer = 0; layer < weights.config().layers; ++layer) {
      LayerMatrices& matrices = layers_.emplace_back();
      const auto places = weights.layer_places(layer);
      for (int i = 0; i < kLayerMatrices; ++i) {
        if (places[i].matrix.rows == 0) continue;
        quantized_.push_back(std::make_unique<QuantizedMatrix>(places[i].matrix, bits, group_size, threads));
        matrices[i] = quantized_.back()->view();
        bytes_ += quantized_.back()->bytes();
      }
    }
  }
  const LayerMatrices& acquire(std::int64_t layer) override { return layers_[layer]; }
  std::int64_t resident_bytes() const override { return bytes_; }

 private:
  std::vector<std::unique_ptr<QuantizedMatrix>> quantized_;
  std::vector<LayerMatrices> layers_;
  std::int64_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<LayerSource> make_mapped_source(std::shared_ptr<const ModelWeights> weights) {
  return std::make_unique<MappedSource>(std::move(weights));
}

std::unique_ptr<LayerSource> make_quantized_source(const ModelWeights& weights, int bits,
                                                   std::int64_t group_size, int threads) {
  return std::make_unique<QuantizedSource>(weights, bits, group_size, threads);
}

}  // namespace deepscale
