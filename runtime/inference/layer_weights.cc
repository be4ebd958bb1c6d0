#include "runtime/inference/layer_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <utility>

#include "comm/base/error.h"
#include "runtime/inference/linear_kernel.h"

namespace deepscale {

namespace {

std::optional<WeightFormat> format_of(const std::string& dtype) {
  if (dtype == "F32") return WeightFormat::kFloat32;
  if (dtype == "BF16") return WeightFormat::kBFloat16;
  if (dtype == "F16") return WeightFormat::kFloat16;
  return std::nullopt;
}

// The tensor of a layer that holds a matrix, and where in it the matrix begins.
struct MatrixName {
  std::string tensor;
  std::int64_t first_row = 0;
};

MatrixName name_of(const ModelConfig& config, LayerMatrix matrix) {
  const std::int64_t query = config.attention_heads * config.head_size;
  const std::int64_t key = config.key_value_heads * config.head_size;
  const bool is_opt = config.architecture == Architecture::kOpt;
  const bool is_fused = config.architecture == Architecture::kPhi3;
  switch (matrix) {
    case LayerMatrix::kQuery:
      return {is_fused ? "self_attn.qkv_proj" : "self_attn.q_proj", 0};
    case LayerMatrix::kKey:
      return is_fused ? MatrixName{"self_attn.qkv_proj", query} : MatrixName{"self_attn.k_proj"};
    case LayerMatrix::kValue:
      return is_fused ? MatrixName{"self_attn.qkv_proj", query + key} : MatrixName{"self_attn.v_proj"};
    case LayerMatrix::kOutput:
      return {is_opt ? "self_attn.out_proj" : "self_attn.o_proj"};
    case LayerMatrix::kGate:
      return {is_fused ? "mlp.gate_up_proj" : is_opt ? "" : "mlp.gate_proj"};
    case LayerMatrix::kUp:
      return is_fused ? MatrixName{"mlp.gate_up_proj", config.intermediate_size}
                      : MatrixName{is_opt ? "fc1" : "mlp.up_proj"};
    case LayerMatrix::kDown:
      return {is_opt ? "fc2" : "mlp.down_proj"};
  }
  return {};
}

struct Shape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

Shape shape_of(const ModelConfig& config, LayerMatrix matrix) {
  const std::int64_t query = config.attention_heads * config.head_size;
  const std::int64_t key = config.key_value_heads * config.head_size;
  switch (matrix) {
    case LayerMatrix::kQuery:
      return {query, config.hidden_size};
    case LayerMatrix::kKey:
    case LayerMatrix::kValue:
      return {key, config.hidden_size};
    case LayerMatrix::kOutput:
      return {config.hidden_size, query};
    case LayerMatrix::kGate:
    case LayerMatrix::kUp:
      return {config.intermediate_size, config.hidden_size};
    case LayerMatrix::kDown:
      return {config.hidden_size, config.intermediate_size};
  }
  return {};
}

void check_architecture(const ModelConfig& config, const std::string& where) {
  switch (config.architecture) {
    case Architecture::kLlama:
    case Architecture::kPhi3:
      return;
    case Architecture::kOpt:
      if (config.norm_before_block && config.word_embedding_size == config.hidden_size) return;
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: inference has OPT with norms before the blocks and no projection of the "
                              "embeddings, as all its sizes but 350m are",
                              where));
    default:
      throw Error(
          ErrorCode::kUnsupported,
          fmt::format("{}: inference has the architectures Llama, Mistral, Phi-3 and OPT, and this is {}",
                      where, architecture_name(config.architecture)));
  }
}

// Of all tensors but the head, in a file with a head; a file of the bare model may lack its first part.
std::string prefix_of(const ModelConfig& config) {
  return config.architecture == Architecture::kOpt ? "model.decoder." : "model.";
}

struct NormNames {
  const char* attention;
  const char* feed_forward;
  const char* last;
};
NormNames norm_names(const ModelConfig& config) {
  if (config.architecture == Architecture::kOpt)
    return {"self_attn_layer_norm", "final_layer_norm", "final_layer_norm"};
  return {"input_layernorm", "post_attention_layernorm", "norm"};
}

bool has_bias(const ModelConfig& config, LayerMatrix matrix) {
  if (config.architecture == Architecture::kOpt) return true;
  return matrix <= LayerMatrix::kOutput ? config.has_attention_bias : config.has_mlp_bias;
}

}  // namespace

ModelWeights::ModelWeights(ModelConfig config, std::shared_ptr<const WeightFiles> files)
    : config_(std::move(config)), files_(std::move(files)) {
  check_architecture(config_, files_->directory().string());
  prefix_ = prefix_of(config_);
  if (!files_->has(prefix_ + "embed_tokens.weight")) prefix_ = prefix_.substr(prefix_.find('.') + 1);
}

MatrixPlace ModelWeights::place(const std::string& name, std::int64_t first_row, std::int64_t rows,
                                std::int64_t columns) const {
  MatrixPlace place{files_->view(name), {}};
  const std::vector<std::int64_t>& shape = place.view.shape;
  if (shape.size() != 2 || shape[0] < first_row + rows || shape[1] != columns)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: the tensor {} is [{}], and config.json asks for [{}, {}]",
                            place.view.file->path().string(), name, fmt::join(shape, ", "), first_row + rows,
                            columns));
  const std::optional<WeightFormat> format = format_of(place.view.dtype);
  if (!format)
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: the tensor {} is {}; inference reads F32, BF16 and F16",
                            place.view.file->path().string(), name, place.view.dtype));
  const std::int64_t skipped = first_row * row_bytes(*format, columns);
  place.view.data += skipped;
  place.view.offset += skipped;
  place.view.bytes = rows * row_bytes(*format, columns);
  place.matrix = {*format, rows, columns, place.view.data};
  return place;
}

std::vector<float> ModelWeights::vector(const std::string& name, std::int64_t first,
                                        std::int64_t count) const {
  const WeightView view = files_->view(name);
  const std::optional<WeightFormat> format = format_of(view.dtype);
  if (!format || view.shape.size() != 1 || view.shape[0] < first + count)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: the tensor {} is {} [{}], and config.json asks for [{}] of F32, BF16 or F16",
                            view.file->path().string(), name, view.dtype, fmt::join(view.shape, ", "),
                            first + count));
  const std::int64_t whole = view.shape[0];
  std::vector<float> values(static_cast<std::size_t>(whole));
  widen_row({*format, 1, whole, view.data}, 0, values.data());
  return {values.begin() + first, values.begin() + first + count};
}

Norm ModelWeights::norm(const std::string& name) const {
  Norm norm{vector(name + ".weight", 0, config_.hidden_size), {}};
  if (files_->has(name + ".bias")) norm.bias = vector(name + ".bias", 0, config_.hidden_size);
  return norm;
}

LayerVectors ModelWeights::layer_vectors(std::int64_t layer) const {
  const std::string prefix = fmt::format("{}layers.{}.", prefix_, layer);
  LayerVectors vectors;
  vectors.attention_norm = norm(prefix + norm_names(config_).attention);
  vectors.feed_forward_norm = norm(prefix + norm_names(config_).feed_forward);
  for (int i = 0; i < kLayerMatrices; ++i) {
    const auto matrix = static_cast<LayerMatrix>(i);
    const MatrixName name = name_of(config_, matrix);
    const std::string bias = prefix + name.tensor + ".bias";
    if (!name.tensor.empty() && files_->has(bias))
      vectors.biases[i] = vector(bias, name.first_row, shape_of(config_, matrix).rows);
  }
  return vectors;
}

std::array<MatrixPlace, kLayerMatrices> ModelWeights::layer_places(std::int64_t layer) const {
  const std::string prefix = fmt::format("{}layers.{}.", prefix_, layer);
  std::array<MatrixPlace, kLayerMatrices> places;
  for (int i = 0; i < kLayerMatrices; ++i) {
    const auto matrix = static_cast<LayerMatrix>(i);
    const MatrixName name = name_of(config_, matrix);
    const Shape shape = shape_of(config_, matrix);
    if (!name.tensor.empty())
      places[i] = place(prefix + name.tensor + ".weight", name.first_row, shape.rows, shape.columns);
  }
  return places;
}

OuterWeights ModelWeights::outer() const {
  OuterWeights outer;
  const bool is_opt = config_.architecture == Architecture::kOpt;
  outer.token_embedding =
      place(prefix_ + "embed_tokens.weight", 0, config_.vocab_size, config_.hidden_size).matrix;
  outer.head = !config_.ties_embeddings && files_->has("lm_head.weight")
                   ? place("lm_head.weight", 0, config_.vocab_size, config_.hidden_size).matrix
                   : outer.token_embedding;
  if (is_opt) {
    outer.position_embedding =
        place(prefix_ + "embed_positions.weight", 0, config_.max_positions + 2, config_.hidden_size).matrix;
  }
  if (config_.has_final_norm) outer.final_norm = norm(prefix_ + norm_names(config_).last);
  return outer;
}

std::vector<NamedShape> decoder_tensors(const ModelConfig& config) {
  check_architecture(config, "config.json");
  const std::string prefix = prefix_of(config);
  const bool is_opt = config.architecture == Architecture::kOpt;
  std::vector<NamedShape> tensors;
  const auto add_norm = [&](const std::string& name) {
    tensors.push_back({name + ".weight", {config.hidden_size}});
    if (is_opt) tensors.push_back({name + ".bias", {config.hidden_size}});
  };
  const auto add_matrix = [&](const std::string& layer, LayerMatrix matrix) {
    const MatrixName name = name_of(config, matrix);
    if (name.tensor.empty()) return;
    const Shape shape = shape_of(config, matrix);
    const std::string whole = layer + name.tensor;
    if (name.first_row > 0) {  // a further part of a fused tensor, whose biases are in it too
      for (NamedShape& tensor : tensors)
        if (tensor.name == whole + ".weight" || tensor.name == whole + ".bias") tensor.shape[0] += shape.rows;
      return;
    }
    tensors.push_back({whole + ".weight", {shape.rows, shape.columns}});
    if (has_bias(config, matrix)) tensors.push_back({whole + ".bias", {shape.rows}});
  };
  tensors.push_back({prefix + "embed_tokens.weight", {config.vocab_size, config.hidden_size}});
  if (is_opt)
    tensors.push_back({prefix + "embed_positions.weight", {config.max_positions + 2, config.hidden_size}});
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string name = fmt::format("{}layers.{}.", prefix, layer);
    add_norm(name + norm_names(config).attention);
    add_norm(name + norm_names(config).feed_forward);
    for (int i = 0; i < kLayerMatrices; ++i) add_matrix(name, static_cast<LayerMatrix>(i));
  }
  if (config.has_final_norm) add_norm(prefix + norm_names(config).last);
  if (!config.ties_embeddings) tensors.push_back({"lm_head.weight", {config.vocab_size, config.hidden_size}});
  return tensors;
}

}  // namespace deepscale
