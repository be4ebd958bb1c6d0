// The weights of a decoder, layer by layer, wherever they are: in memory, mapped from their files, quantised,
// or on their way from a file.
//
// A decoder layer is: norm, attention (query, key, value, output), norm, feed-forward (gate and up, or up
// alone, then down). Matrices are views of what the source keeps; vectors are fp32 copies, which are small.
//
// Names of tensors are those that transformers saves.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/inference/weight_format.h"
#include "runtime/pretrained/model_config.h"
#include "runtime/pretrained/weight_files.h"

namespace deepscale {

enum class LayerMatrix : std::uint8_t { kQuery, kKey, kValue, kOutput, kGate, kUp, kDown };
constexpr int kLayerMatrices = 7;

struct Norm {
  std::vector<float> weight;
  std::vector<float> bias;  // empty: none, and then an RMSNorm
};

struct LayerVectors {
  Norm attention_norm;
  Norm feed_forward_norm;
  std::array<std::vector<float>, kLayerMatrices> biases;  // empty: none
};

using LayerMatrices = std::array<WeightMatrix, kLayerMatrices>;  // kGate has no rows where there is no gate

// What stands outside the layers.
struct OuterWeights {
  WeightMatrix token_embedding;     // [vocab, hidden]
  WeightMatrix head;                // [vocab, hidden]; the embedding itself where they are tied
  WeightMatrix position_embedding;  // OPT: [positions + 2, hidden]; else no rows
  Norm final_norm;
};

// Where a matrix lies in the files of a model: a run of rows of one tensor.
struct MatrixPlace {
  WeightView view;
  WeightMatrix matrix;  // in the mapped file
};

// Reads the parts of a model folder by the names of its architecture. Any thread. Error(kNotFound) for a
// tensor that is not there, Error(kInvalidArgument) for one of another shape, Error(kUnsupported) for an
// architecture that is no decoder, for dtypes other than F32, BF16 and F16, and for shapes that the kernels
// do not take.
class ModelWeights {
 public:
  ModelWeights(ModelConfig config, std::shared_ptr<const WeightFiles> files);

  const ModelConfig& config() const { return config_; }
  LayerVectors layer_vectors(std::int64_t layer) const;
  std::array<MatrixPlace, kLayerMatrices> layer_places(std::int64_t layer) const;
  OuterWeights outer() const;
  std::int64_t bytes() const { return files_->bytes(); }

 private:
  MatrixPlace place(const std::string& name, std::int64_t first_row, std::int64_t rows,
                    std::int64_t columns) const;
  std::vector<float> vector(const std::string& name, std::int64_t first, std::int64_t count) const;
  Norm norm(const std::string& name) const;

  ModelConfig config_;
  std::shared_ptr<const WeightFiles> files_;
  std::string prefix_;
};

// The tensors that a model of this shape has, as transformers names and saves them. Error(kUnsupported) as
// above.
struct NamedShape {
  std::string name;
  std::vector<std::int64_t> shape;
};
std::vector<NamedShape> decoder_tensors(const ModelConfig& config);

}  // namespace deepscale
