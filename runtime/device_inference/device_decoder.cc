#include "runtime/device_inference/device_decoder.h"

#include <torch/torch.h>

#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/device_inference/device_layers.h"
#include "runtime/engine/device.h"
#include "runtime/engine/tensor_collectives.h"
#include "runtime/inference/step_tokens.h"
#include "runtime/models/layers.h"

namespace deepscale {
namespace {

class DeviceDecoder final : public Decoder {
 public:
  DeviceDecoder(std::shared_ptr<const ModelWeights> weights, std::unique_ptr<LayerSource> source,
                const DeviceDecoderOptions& options);

  std::span<const float> step(std::span<const DecoderToken> tokens) override;
  void reset() override { tokens_.reset(); }

  const ModelConfig& config() const override { return weights_->config(); }
  std::int64_t positions() const override { return tokens_.positions(); }
  std::int64_t cache_bytes() const override {
    return static_cast<std::int64_t>(keys_.nbytes() + values_.nbytes());
  }
  std::int64_t resident_weight_bytes() const override;
  std::int64_t peak_bytes() const override { return peak_device_bytes(streams_.device); }
  std::span<const LayerTiming> timings() const override { return timings_; }
  LayerReading read_layers() override { return layers_.read(); }

 private:
  // Vectors of a layer, on the device.
  struct DeviceNorm {
    at::Tensor weight, bias;  // no bias: an RMSNorm
  };
  struct Vectors {
    DeviceNorm attention_norm, feed_forward_norm;
    std::array<std::optional<at::Tensor>, kLayerMatrices> biases;
  };
  // Where the tokens of a step are, on the device. A row is one sequence of the step; rows are padded to the
  // longest of them, and "places" are those of [rows, longest].
  struct Batch {
    at::Tensor ids, positions;  // [tokens]
    at::Tensor cache_slots;     // [tokens], on the cache's device
    at::Tensor sequences;       // [rows], on the cache's device; undefined: all of the cache, in order
    at::Tensor places;          // [tokens]
    at::Tensor last;            // [rows], a token each
    at::Tensor mask;            // [rows, longest, seen]
    at::Tensor cosines, sines;  // [tokens, 1, pairs]
    std::int64_t rows = 0, longest = 0, seen = 0;
  };

  at::Tensor upload(const WeightMatrix& matrix) const;
  DeviceNorm upload(const Norm& norm) const;
  at::Tensor upload(const std::vector<float>& values, at::ScalarType dtype) const;
  Vectors upload(const LayerVectors& vectors) const;
  Batch make_batch() const;
  at::Tensor embed(const Batch& batch) const;
  at::Tensor norm(const DeviceNorm& norm, const at::Tensor& input) const;
  at::Tensor rotate(const at::Tensor& heads, const Batch& batch) const;
  at::Tensor attend(std::int64_t layer, const Batch& batch, const at::Tensor& query, const at::Tensor& key,
                    const at::Tensor& value);
  at::Tensor seen_of(const at::Tensor& cache, std::int64_t layer, const Batch& batch) const;
  at::Tensor run_layer(std::int64_t layer, const DeviceMatrices& matrices, const Batch& batch,
                       at::Tensor hidden);

  const std::shared_ptr<const ModelWeights> weights_;
  const DeviceStreams streams_;
  StepTokens tokens_;
  const std::int64_t sequences_;
  at::ScalarType dtype_;
  at::Tensor token_embedding_, head_, position_embedding_;
  DeviceNorm final_norm_;
  std::vector<Vectors> vectors_;
  at::Tensor cosines_, sines_;  // [positions, pairs]; undefined without rotary embedding
  at::Tensor keys_, values_;    // [layers, sequences, positions, heads, head size]
  DeviceLayers layers_;
  std::vector<float> logits_;
  std::vector<LayerTiming> timings_;
};

DeviceDecoder::DeviceDecoder(std::shared_ptr<const ModelWeights> weights, std::unique_ptr<LayerSource> source,
                             const DeviceDecoderOptions& options)
    : weights_(std::move(weights)),
      streams_(c10::Device(options.device)),
      tokens_(config(), {.sequences = options.sequences, .positions = options.positions}),
      sequences_(options.sequences),
      layers_(std::move(source), streams_,
              {.layers = config().layers,
               .keeps_on_host = options.keeps_weights_on_host,
               .pins = options.pins_weights,
               .times = options.times_layers}) {
  const c10::InferenceMode inference;
  const OuterWeights outer = weights_->outer();
  dtype_ = options.dtype ? to_scalar_type(*options.dtype) : scalar_type(outer.token_embedding.format);
  token_embedding_ = upload(outer.token_embedding);
  head_ = outer.head.data == outer.token_embedding.data ? token_embedding_ : upload(outer.head);
  if (outer.position_embedding.rows > 0) position_embedding_ = upload(outer.position_embedding);
  final_norm_ = upload(outer.final_norm);
  for (std::int64_t layer = 0; layer < config().layers; ++layer)
    vectors_.push_back(upload(weights_->layer_vectors(layer)));
  const RopeTable rope = rope_table(config(), positions());
  if (rope.pairs > 0) {
    cosines_ = upload(rope.cosines, at::kFloat).view({positions(), rope.pairs});
    sines_ = upload(rope.sines, at::kFloat).view({positions(), rope.pairs});
  }
  const bool is_on_host = options.keeps_cache_on_host || streams_.device.is_cpu();
  const auto cache_options = at::TensorOptions(dtype_)
                                 .device(is_on_host ? c10::Device(c10::kCPU) : streams_.device)
                                 .pinned_memory(is_on_host && !streams_.device.is_cpu());
  const std::int64_t shape[] = {config().layers, sequences_, positions(), config().key_value_heads,
                                config().head_size};
  keys_ = at::zeros(shape, cache_options);  // what no token has written is masked, but must be numbers
  values_ = at::zeros(shape, cache_options);
}

at::Tensor DeviceDecoder::upload(const WeightMatrix& matrix) const {
  return view_of(matrix).elements.to(streams_.device, dtype_, /*non_blocking=*/false, /*copy=*/true);
}

at::Tensor DeviceDecoder::upload(const std::vector<float>& values, at::ScalarType dtype) const {
  return at::tensor(values, at::kFloat).to(streams_.device, dtype);
}

DeviceDecoder::DeviceNorm DeviceDecoder::upload(const Norm& norm) const {
  if (norm.bias.empty()) return {upload(norm.weight, at::kFloat), {}};
  return {upload(norm.weight, dtype_), upload(norm.bias, dtype_)};
}

DeviceDecoder::Vectors DeviceDecoder::upload(const LayerVectors& vectors) const {
  Vectors uploaded{upload(vectors.attention_norm), upload(vectors.feed_forward_norm), {}};
  for (std::size_t i = 0; i < vectors.biases.size(); ++i)
    if (!vectors.biases[i].empty()) uploaded.biases[i] = upload(vectors.biases[i], dtype_);
  return uploaded;
}

std::int64_t DeviceDecoder::resident_weight_bytes() const {
  std::int64_t bytes = layers_.bytes() + static_cast<std::int64_t>(token_embedding_.nbytes());
  if (!head_.is_same(token_embedding_)) bytes += static_cast<std::int64_t>(head_.nbytes());
  if (position_embedding_.defined()) bytes += static_cast<std::int64_t>(position_embedding_.nbytes());
  return bytes;
}

DeviceDecoder::Batch DeviceDecoder::make_batch() const {
  Batch batch;
  batch.rows = static_cast<std::int64_t>(tokens_.last_of_rows().size());
  std::vector<std::int64_t> ids, positions, slots, lengths(static_cast<std::size_t>(batch.rows)), in_row,
      last;
  std::vector<std::int64_t> sequences(static_cast<std::size_t>(batch.rows));
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const StepTokens::Token& token = tokens_[i];
    const auto row = static_cast<std::size_t>(token.row);
    ids.push_back(token.id);
    positions.push_back(token.position);
    slots.push_back(token.sequence * this->positions() + token.position);
    in_row.push_back(lengths[row]++);
    sequences[row] = token.sequence;
    batch.longest = std::max(batch.longest, lengths[row]);
    batch.seen = std::max(batch.seen, token.position + 1);
  }
  std::vector<std::int64_t> places;
  for (std::size_t i = 0; i < tokens_.size(); ++i)
    places.push_back(tokens_[i].row * batch.longest + in_row[i]);
  for (const std::size_t token : tokens_.last_of_rows()) last.push_back(static_cast<std::int64_t>(token));
  const auto on = [](const std::vector<std::int64_t>& values, c10::Device device) {
    return at::tensor(values, at::kLong).to(device);
  };
  batch.ids = on(ids, streams_.device);
  batch.positions = on(positions, streams_.device);
  batch.places = on(places, streams_.device);
  batch.last = on(last, streams_.device);
  batch.cache_slots = on(slots, keys_.device());
  bool is_whole_cache = batch.rows == sequences_;
  for (std::size_t row = 0; row < sequences.size(); ++row)
    is_whole_cache = is_whole_cache && sequences[row] == static_cast<std::int64_t>(row);
  if (!is_whole_cache) batch.sequences = on(sequences, keys_.device());

  // A query sees the keys up to its own position, and of those the last ones of the window. Padding is at
  // position 0.
  const at::Tensor of_queries = at::zeros({batch.rows * batch.longest}, batch.positions.options())
                                    .index_copy_(0, batch.places, batch.positions)
                                    .view({batch.rows, batch.longest, 1});
  const at::Tensor of_keys = at::arange(batch.seen, batch.positions.options());
  batch.mask = of_keys.le(of_queries);
  if (config().sliding_window > 0) batch.mask.logical_and_(of_keys.gt(of_queries - config().sliding_window));
  if (cosines_.defined()) {
    batch.cosines = cosines_.index_select(0, batch.positions).unsqueeze(1);
    batch.sines = sines_.index_select(0, batch.positions).unsqueeze(1);
  }
  return batch;
}

at::Tensor DeviceDecoder::embed(const Batch& batch) const {
  at::Tensor hidden = token_embedding_.index_select(0, batch.ids);
  constexpr std::int64_t kOptOffset = 2;  // the first two rows stand for padding
  if (position_embedding_.defined())
    hidden.add_(position_embedding_.index_select(0, batch.positions + kOptOffset));
  return hidden;
}

at::Tensor DeviceDecoder::norm(const DeviceNorm& norm, const at::Tensor& input) const {
  if (norm.bias.defined())
    return at::layer_norm(input, {config().hidden_size}, norm.weight, norm.bias, config().norm_epsilon);
  const at::Tensor exact = input.to(at::kFloat);
  const at::Tensor scale = exact.square().mean(-1, /*keepdim=*/true).add_(config().norm_epsilon).rsqrt_();
  return exact.mul(scale).mul_(norm.weight).to(dtype_);
}

// [tokens, heads, head size]. Pairs are (i, i + pairs), as transformers has them.
at::Tensor DeviceDecoder::rotate(const at::Tensor& heads, const Batch& batch) const {
  if (!cosines_.defined()) return heads;
  const std::int64_t pairs = cosines_.size(1);
  const at::Tensor left = heads.narrow(2, 0, pairs).to(at::kFloat);
  const at::Tensor right = heads.narrow(2, pairs, pairs).to(at::kFloat);
  const at::Tensor rest = heads.narrow(2, 2 * pairs, heads.size(2) - 2 * pairs);
  return at::cat({(left * batch.cosines - right * batch.sines).to(dtype_),
                  (right * batch.cosines + left * batch.sines).to(dtype_), rest},
                 2);
}

// The positions of the step's sequences, [rows, heads, seen, head size], on the device.
at::Tensor DeviceDecoder::seen_of(const at::Tensor& cache, std::int64_t layer, const Batch& batch) const {
  at::Tensor seen = cache.select(0, layer).narrow(1, 0, batch.seen);
  if (batch.sequences.defined()) seen = seen.index_select(0, batch.sequences);
  return seen.to(streams_.device).transpose(1, 2);
}

// [tokens, heads, head size] each. The query heads that share a key head are further queries to it, so that
// keys and values need not be repeated.
at::Tensor DeviceDecoder::attend(std::int64_t layer, const Batch& batch, const at::Tensor& query,
                                 const at::Tensor& key, const at::Tensor& value) {
  const std::int64_t shared = config().key_value_heads, size = config().head_size;
  const std::int64_t group = config().attention_heads / shared;
  for (const auto& [cache, fresh] : {std::pair{keys_, key}, std::pair{values_, value}})
    cache.select(0, layer).flatten(0, 1).index_copy_(0, batch.cache_slots, fresh.to(cache.device()));
  const at::Tensor padded = at::zeros({batch.rows * batch.longest, shared * group, size}, query.options())
                                .index_copy_(0, batch.places, query);
  const at::Tensor queries = padded.view({batch.rows, batch.longest, shared, group, size})
                                 .permute({0, 2, 3, 1, 4})
                                 .reshape({batch.rows, shared, group * batch.longest, size});
  const at::Tensor mask = batch.mask.unsqueeze(1)
                              .expand({-1, group, -1, -1})
                              .reshape({batch.rows, 1, group * batch.longest, batch.seen});
  return at::scaled_dot_product_attention(queries, seen_of(keys_, layer, batch),
                                          seen_of(values_, layer, batch), mask)
      .view({batch.rows, shared, group, batch.longest, size})
      .permute({0, 3, 1, 2, 4})
      .reshape({batch.rows * batch.longest, shared * group * size})
      .index_select(0, batch.places);
}

at::Tensor DeviceDecoder::run_layer(std::int64_t layer, const DeviceMatrices& matrices, const Batch& batch,
                                    at::Tensor hidden) {
  const Vectors& vectors = vectors_[static_cast<std::size_t>(layer)];
  const auto product = [&](LayerMatrix matrix, const at::Tensor& input) {
    const auto index = static_cast<std::size_t>(matrix);
    return at::linear(input, matrices[index].dense(dtype_), vectors.biases[index]);
  };
  const auto heads = [&](LayerMatrix matrix, const at::Tensor& input, std::int64_t count) {
    return product(matrix, input).view({-1, count, config().head_size});
  };
  const at::Tensor seen = norm(vectors.attention_norm, hidden);
  const at::Tensor query = rotate(heads(LayerMatrix::kQuery, seen, config().attention_heads), batch);
  const at::Tensor key = rotate(heads(LayerMatrix::kKey, seen, config().key_value_heads), batch);
  const at::Tensor value = heads(LayerMatrix::kValue, seen, config().key_value_heads);
  hidden = hidden + product(LayerMatrix::kOutput, attend(layer, batch, query, key, value));

  const at::Tensor normed = norm(vectors.feed_forward_norm, hidden);
  at::Tensor up = product(LayerMatrix::kUp, normed);
  const bool is_gated = matrices[static_cast<std::size_t>(LayerMatrix::kGate)].elements.defined();
  const at::Tensor activated =
      activate(is_gated ? product(LayerMatrix::kGate, normed) : up, config().activation);
  up = is_gated ? activated * up : activated;
  return hidden + product(LayerMatrix::kDown, up);
}

std::span<const float> DeviceDecoder::step(std::span<const DecoderToken> tokens) {
  const c10::InferenceMode inference;
  tokens_.place(tokens);
  const Batch batch = make_batch();
  at::Tensor hidden = embed(batch);
  for (std::int64_t layer = 0; layer < config().layers; ++layer) {
    hidden = run_layer(layer, layers_.acquire(layer), batch, hidden);
    layers_.finish(layer);
  }
  hidden = hidden.index_select(0, batch.last);
  if (config().has_final_norm) hidden = norm(final_norm_, hidden);
  const at::Tensor logits = at::linear(hidden, head_).to(at::kFloat).to(at::kCPU).contiguous();
  const float* values = logits.const_data_ptr<float>();
  logits_.assign(values, values + logits.numel());
  const auto timings = layers_.timings();
  timings_.assign(timings.begin(), timings.end());
  return logits_;
}

}  // namespace

std::unique_ptr<Decoder> make_device_decoder(std::shared_ptr<const ModelWeights> weights,
                                             std::unique_ptr<LayerSource> source,
                                             const DeviceDecoderOptions& options) {
  return std::make_unique<DeviceDecoder>(std::move(weights), std::move(source), options);
}

std::string gpu_of_rank(const WorldLayout& layout) {
  const c10::Device device = choose_device(layout).device;
  return device.is_cpu() ? "" : device.str();
}

}  // namespace deepscale
