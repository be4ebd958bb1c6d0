#include "runtime/inference/host_decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "comm/base/process_memory.h"
#include "runtime/inference/activation.h"
#include "runtime/inference/linear_kernel.h"

namespace deepscale {

namespace {

CacheShape cache_shape(const ModelConfig& config, const DecoderOptions& options, std::int64_t positions) {
  return {config.layers, options.sequences, config.key_value_heads,
          positions,     config.head_size,  options.cache_dtype};
}

void softmax(float* scores, std::int64_t count) {
  const float greatest = *std::max_element(scores, scores + count);
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += scores[i] = std::exp(scores[i] - greatest);
  for (std::int64_t i = 0; i < count; ++i) scores[i] /= sum;
}

void add(std::vector<float>& sum, const std::vector<float>& term) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += term[i];
}

}  // namespace

// Of the tokens of one step, [tokens, width] each.
struct HostDecoder::Activations {
  std::vector<float> hidden, normed, query, key, value, attended, projected, gate, up, last, logits;
};

HostDecoder::HostDecoder(std::shared_ptr<const ModelWeights> weights, std::unique_ptr<LayerSource> source,
                         const DecoderOptions& options)
    : weights_(std::move(weights)),
      source_(std::move(source)),
      outer_(weights_->outer()),
      tokens_(weights_->config(), options),
      cache_(cache_shape(weights_->config(), options, tokens_.positions())),
      team_(options.threads),
      activations_(std::make_unique<Activations>()),
      timings_(static_cast<std::size_t>(weights_->config().layers)) {
  for (std::int64_t layer = 0; layer < config().layers; ++layer)
    vectors_.push_back(weights_->layer_vectors(layer));
  rope_ = rope_table(config(), positions());
}

HostDecoder::~HostDecoder() = default;

std::int64_t HostDecoder::resident_weight_bytes() const {
  std::int64_t bytes =
      source_->resident_bytes() +
      outer_.token_embedding.rows * row_bytes(outer_.token_embedding.format, config().hidden_size);
  if (outer_.head.data != outer_.token_embedding.data)
    bytes += outer_.head.rows * row_bytes(outer_.head.format, config().hidden_size);
  return bytes;
}

std::int64_t HostDecoder::peak_bytes() const {
  return peak_resident_bytes();
}

void HostDecoder::read(std::span<const std::byte> memory) {
  using Word = std::uint64_t;
  constexpr std::int64_t kWordsAtOnce = 1 << 16;
  team_.run(static_cast<std::int64_t>(memory.size() / sizeof(Word)), kWordsAtOnce,
            [&](std::int64_t begin, std::int64_t end) {
              Word words[4] = {};
              Word mixed = 0;
              for (std::int64_t at = begin; at < end; at += 4) {
                const auto count = static_cast<std::size_t>(std::min<std::int64_t>(4, end - at));
                std::memcpy(words, memory.data() + at * sizeof(Word), count * sizeof(Word));
                mixed ^= words[0] ^ words[1] ^ words[2] ^ words[3];
              }
              const volatile Word kept = mixed;  // so that the reads are not left out
              (void)kept;
            });
}

// Of files the first round only brings the readers into their stride: they had time to fetch before it.
LayerReading HostDecoder::read_layers() {
  LayerReading reading;
  for (int round = 0; round < 2; ++round) {
    const auto start = std::chrono::steady_clock::now();
    reading.bytes = 0;
    for (std::int64_t layer = 0; layer < config().layers; ++layer) {
      const LayerMatrices& matrices = source_->acquire(layer);
      const bool was_brought = source_->last_transfer().bytes > 0;
      for (const WeightMatrix& matrix : matrices) {
        reading.bytes += matrix_bytes(matrix) + scale_bytes(matrix);
        if (was_brought) continue;
        read({matrix.data, static_cast<std::size_t>(matrix_bytes(matrix))});
        read({reinterpret_cast<const std::byte*>(matrix.scales),
              static_cast<std::size_t>(scale_bytes(matrix))});
      }
    }
    reading.time = std::chrono::steady_clock::now() - start;
  }
  return reading;
}

void HostDecoder::embed() {
  const std::int64_t width = config().hidden_size;
  std::vector<float>& hidden = activations_->hidden;
  hidden.resize(tokens_.size() * width);
  std::vector<float> position(static_cast<std::size_t>(width));
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    float* row = hidden.data() + i * width;
    widen_row(outer_.token_embedding, tokens_[i].id, row);
    if (outer_.position_embedding.rows == 0) continue;
    constexpr std::int64_t kOptOffset = 2;  // the first two rows stand for padding
    widen_row(outer_.position_embedding, tokens_[i].position + kOptOffset, position.data());
    for (std::int64_t k = 0; k < width; ++k) row[k] += position[k];
  }
}

void HostDecoder::norm(const Norm& norm, const float* input, float* output) const {
  const std::int64_t width = config().hidden_size;
  const bool is_layer_norm = !norm.bias.empty();
  double sum = 0, squares = 0;
  if (is_layer_norm)
    for (std::int64_t i = 0; i < width; ++i) sum += input[i];
  const float mean = static_cast<float>(sum / static_cast<double>(width));
  for (std::int64_t i = 0; i < width; ++i)
    squares += static_cast<double>(input[i] - mean) * (input[i] - mean);
  const auto scale =
      static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(width) + config().norm_epsilon));
  for (std::int64_t i = 0; i < width; ++i)
    output[i] = (input[i] - mean) * scale * norm.weight[i] + (is_layer_norm ? norm.bias[i] : 0.0f);
}

void HostDecoder::product(const WeightMatrix& matrix, const std::vector<float>& bias,
                          std::span<const float> input, std::vector<float>& output) {
  const std::int64_t count = static_cast<std::int64_t>(input.size()) / matrix.columns;
  output.resize(static_cast<std::size_t>(count * matrix.rows));
  constexpr std::int64_t kRowsAtOnce = 16;  // so that threads write to cache lines of their own
  team_.run(matrix.rows, kRowsAtOnce, [&](std::int64_t begin, std::int64_t end) {
    multiply({input.data(), count, matrix, output.data(), matrix.rows, begin, end});
    if (bias.empty()) return;
    for (std::int64_t m = 0; m < count; ++m)
      for (std::int64_t row = begin; row < end; ++row) output[m * matrix.rows + row] += bias[row];
  });
}

void HostDecoder::in_parts(std::vector<float>& values,
                           const std::function<void(std::span<float>, std::int64_t)>& work) {
  constexpr std::int64_t kValuesAtOnce = 1024;
  team_.run(static_cast<std::int64_t>(values.size()), kValuesAtOnce,
            [&](std::int64_t begin, std::int64_t end) {
              work({values.data() + begin, static_cast<std::size_t>(end - begin)}, begin);
            });
}

// Pairs are (i, i + half), as transformers has them.
void HostDecoder::rotate(float* heads, std::int64_t count, std::int64_t position) const {
  const std::int64_t half = rope_.pairs;
  const float* cosines = rope_.cosines.data() + position * half;
  const float* sines = rope_.sines.data() + position * half;
  for (std::int64_t head = 0; head < count; ++head) {
    float* left = heads + head * config().head_size;
    float* right = left + half;
    for (std::int64_t i = 0; i < half; ++i) {
      const float x = left[i], y = right[i];
      left[i] = x * cosines[i] - y * sines[i];
      right[i] = y * cosines[i] + x * sines[i];
    }
  }
}

void HostDecoder::attend_head(std::int64_t layer, std::int64_t token, std::int64_t head,
                              std::vector<float>& scores) {
  const std::int64_t size = config().head_size;
  const std::int64_t group = config().attention_heads / config().key_value_heads;
  const KeyValueCache::Slot slot{layer, tokens_[token].sequence, head / group};
  const std::int64_t seen = tokens_[token].position + 1;
  const std::int64_t window = config().sliding_window;
  const std::int64_t first = window > 0 && seen > window ? seen - window : 0;
  const std::int64_t at = (token * config().attention_heads + head) * size;
  scores.resize(static_cast<std::size_t>(seen - first));
  cache_.scores(slot, first, seen - first, activations_->query.data() + at, scores.data());
  softmax(scores.data(), seen - first);
  cache_.combine(slot, first, seen - first, scores.data(), activations_->attended.data() + at);
}

void HostDecoder::attend(std::int64_t layer) {
  Activations& a = *activations_;
  const std::int64_t size = config().head_size, heads = config().attention_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    float* key = a.key.data() + i * config().key_value_heads * size;
    float* query = a.query.data() + i * heads * size;
    if (rope_.pairs > 0) {
      rotate(key, config().key_value_heads, tokens_[i].position);
      rotate(query, heads, tokens_[i].position);
    }
    for (std::int64_t k = 0; k < heads * size; ++k) query[k] *= scale;
    const float* value = a.value.data() + i * config().key_value_heads * size;
    for (std::int64_t head = 0; head < config().key_value_heads; ++head)
      cache_.write({layer, tokens_[i].sequence, head}, tokens_[i].position, key + head * size,
                   value + head * size);
  }
  a.attended.resize(a.query.size());
  team_.run(static_cast<std::int64_t>(tokens_.size()) * heads, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scores;
    for (std::int64_t i = begin; i < end; ++i) attend_head(layer, i / heads, i % heads, scores);
  });
}

void HostDecoder::run_layer(std::int64_t layer, const LayerMatrices& matrices) {
  Activations& a = *activations_;
  const LayerVectors& vectors = vectors_[layer];
  const auto apply = [&](LayerMatrix matrix, const std::vector<float>& input, std::vector<float>& output) {
    product(matrices[static_cast<int>(matrix)], vectors.biases[static_cast<int>(matrix)], input, output);
  };
  const auto normalize = [&](const Norm& weights) {
    a.normed.resize(a.hidden.size());
    for (std::size_t at = 0; at < a.hidden.size(); at += config().hidden_size)
      norm(weights, a.hidden.data() + at, a.normed.data() + at);
  };
  normalize(vectors.attention_norm);
  apply(LayerMatrix::kQuery, a.normed, a.query);
  apply(LayerMatrix::kKey, a.normed, a.key);
  apply(LayerMatrix::kValue, a.normed, a.value);
  attend(layer);
  apply(LayerMatrix::kOutput, a.attended, a.projected);
  add(a.hidden, a.projected);

  normalize(vectors.feed_forward_norm);
  apply(LayerMatrix::kUp, a.normed, a.up);
  if (matrices[static_cast<int>(LayerMatrix::kGate)].rows > 0) {
    apply(LayerMatrix::kGate, a.normed, a.gate);
    in_parts(a.gate, [&](std::span<float> gate, std::int64_t begin) {
      activate(config().activation, gate);
      for (std::size_t i = 0; i < gate.size(); ++i) a.up[begin + i] *= gate[i];
    });
  } else {
    in_parts(a.up, [&](std::span<float> up, std::int64_t) { activate(config().activation, up); });
  }
  apply(LayerMatrix::kDown, a.up, a.projected);
  add(a.hidden, a.projected);
}

std::span<const float> HostDecoder::step(std::span<const DecoderToken> tokens) {
  using Clock = std::chrono::steady_clock;
  tokens_.place(tokens);
  embed();
  for (std::int64_t layer = 0; layer < config().layers; ++layer) {
    const auto asked = Clock::now();
    const LayerMatrices& matrices = source_->acquire(layer);
    const auto got = Clock::now();
    run_layer(layer, matrices);
    timings_[layer] = {asked.time_since_epoch(), got - asked, Clock::now() - got, source_->last_transfer()};
  }
  Activations& a = *activations_;
  const std::int64_t width = config().hidden_size;
  const std::vector<std::size_t>& last = tokens_.last_of_rows();
  a.last.resize(last.size() * width);
  for (std::size_t i = 0; i < last.size(); ++i) {
    const float* hidden = a.hidden.data() + last[i] * width;
    if (config().has_final_norm)
      norm(outer_.final_norm, hidden, a.last.data() + i * width);
    else
      std::copy(hidden, hidden + width, a.last.data() + i * width);
  }
  product(outer_.head, {}, a.last, a.logits);
  return a.logits;
}

}  // namespace deepscale
