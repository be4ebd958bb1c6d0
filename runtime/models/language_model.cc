#include "runtime/models/language_model.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <cmath>

#include "comm/base/error.h"
#include "runtime/models/families.h"
#include "runtime/models/log_probabilities.h"
#include "runtime/models/token_check.h"

namespace deepscale {
namespace {

// [1, 1, queries, keys]: a query sees itself and the keys before it, within the window.
at::Tensor causal_mask(std::int64_t past, std::int64_t queries, std::int64_t window, at::Device device) {
  const auto options = at::TensorOptions(at::kLong).device(device);
  const at::Tensor query = at::arange(past, past + queries, options).unsqueeze(1);
  const at::Tensor key = at::arange(past + queries, options).unsqueeze(0);
  at::Tensor allowed = key <= query;
  if (window > 0) allowed = allowed & (query - key < window);
  return allowed.unsqueeze(0).unsqueeze(0);
}

// Every query may see its own key, else one of padding would see none, and its softmax would not be a number.
at::Tensor without_padding(const at::Tensor& allowed, const at::Tensor& attention_mask, std::int64_t past) {
  const std::int64_t queries = allowed.size(2);
  const at::Tensor own = at::eye(queries, past + queries, allowed.options()).to(at::kBool).roll(past, 1);
  return (allowed & attention_mask.to(at::kBool).unsqueeze(1).unsqueeze(1)) | own;
}

}  // namespace

void check_tokens(const ModelConfig& config, const at::Tensor& input_ids, std::int64_t past) {
  const std::int64_t tokens = past + input_ids.size(1);
  if (tokens > config.max_positions) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} tokens are more than the {} positions of this {} model: shorten the text",
                            tokens, config.max_positions, architecture_name(config.architecture)));
  }
  if (!input_ids.is_cpu() || input_ids.numel() == 0) return;
  const auto [least, most] = at::aminmax(input_ids);
  if (least.item<std::int64_t>() < 0 || most.item<std::int64_t>() >= config.vocab_size) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("token {} is outside the vocabulary of {}: is the tokenizer of another model?",
                    (least.item<std::int64_t>() < 0 ? least : most).item<std::int64_t>(), config.vocab_size));
  }
}

void LanguageModel::place(const at::Tensor& input_ids, ForwardContext& context) const {
  const std::int64_t past = context.cache == nullptr ? 0 : context.cache->length();
  const std::int64_t queries = input_ids.size(1);
  const at::Device device = input_ids.device();
  const bool has_padding = context.attention_mask.defined() && !context.attention_mask.all().item<bool>();
  const std::int64_t window = config_.sliding_window < past + queries ? config_.sliding_window : 0;
  if (has_padding) {
    const at::Tensor order = context.attention_mask.to(at::kLong).cumsum(1).sub(1).clamp_min(0);
    context.positions = order.narrow(1, past, queries).to(device);
  } else {
    context.positions = at::arange(past, past + queries, input_ids.options()).unsqueeze(0);
  }
  context.is_causal = !has_padding && window == 0 && past == 0 && queries > 1;
  context.allowed = at::Tensor();
  if (context.is_causal || (!has_padding && window == 0 && queries == 1)) return;
  context.allowed = causal_mask(past, queries, window, device);
  if (has_padding)
    context.allowed = without_padding(context.allowed, context.attention_mask.to(device), past);
}

void LanguageModel::rotate(const at::Tensor& like, std::int64_t length, ForwardContext& context) const {
  const RopeFrequencies frequencies = rope_frequencies(config_, length);
  const at::Tensor radians = at::tensor(frequencies.radians_per_position).to(like.device());
  const at::Tensor half = context.positions.to(at::kFloat).unsqueeze(-1) * radians;
  const at::Tensor angles = at::cat({half, half}, -1).unsqueeze(1);
  context.cosines = (angles.cos() * frequencies.attention_factor).to(like.scalar_type());
  context.sines = (angles.sin() * frequencies.attention_factor).to(like.scalar_type());
}

at::Tensor LanguageModel::embed(const at::Tensor& input_ids, ForwardContext& context) {
  const std::int64_t past = context.cache == nullptr ? 0 : context.cache->length();
  check_tokens(config_, input_ids, past);
  place(input_ids, context);
  const at::Tensor hidden = embed_tokens(input_ids, context);
  const bool has_rope =
      config_.architecture == Architecture::kLlama || config_.architecture == Architecture::kPhi3;
  if (has_rope) rotate(hidden, past + input_ids.size(1), context);
  return hidden;
}

at::Tensor LanguageModel::forward(at::Tensor input_ids, at::Tensor attention_mask) {
  ForwardContext context{.attention_mask = std::move(attention_mask)};
  at::Tensor hidden = embed(input_ids, context);
  for (std::int64_t i = 0; i < config_.layers; ++i) hidden = run_layer(i, hidden, context);
  return head(hidden);
}

at::Tensor LanguageModel::forward_cached(const at::Tensor& input_ids, KeyValueCache& cache,
                                         const at::Tensor& attention_mask) {
  ForwardContext context{.attention_mask = attention_mask, .cache = &cache};
  at::Tensor hidden = embed(input_ids, context);
  for (std::int64_t i = 0; i < config_.layers; ++i) hidden = run_layer(i, hidden, context);
  cache.advance(input_ids.size(1));
  return head(hidden.narrow(1, hidden.size(1) - 1, 1));
}

std::shared_ptr<LanguageModel> make_language_model(const ModelConfig& config) {
  switch (config.architecture) {
    case Architecture::kLlama:
    case Architecture::kPhi3:
      return make_llama(config);
    case Architecture::kOpt:
      return make_opt(config);
    case Architecture::kGpt2:
      return make_gpt2(config);
    case Architecture::kBert:
      break;
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{} does not predict the next token: give a Llama, Phi-3, OPT or GPT-2 model",
                          architecture_name(config.architecture)));
}

void initialize_weights(torch::nn::Module& model, const ModelConfig& config) {
  at::NoGradGuard no_grad;
  for (const auto& entry : model.named_parameters()) {
    const std::string& name = entry.key();
    at::Tensor parameter = entry.value();
    const bool is_bias = name.size() >= 4 && name.compare(name.size() - 4, 4, "bias") == 0;
    if (is_bias) {
      parameter.zero_();
    } else if (parameter.dim() < 2) {
      parameter.fill_(1.0);
    } else {
      // GPT-2's authors make what each block adds to the residual smaller the more blocks there are.
      const bool is_residual = name.find(".c_proj.weight") != std::string::npos;
      const double layers = is_residual ? 2.0 * static_cast<double>(config.layers) : 1.0;
      parameter.normal_(0.0, config.initializer_range / std::sqrt(layers));
    }
  }
}

at::Tensor next_token_loss(const at::Tensor& logits, const at::Tensor& labels) {
  const std::int64_t predicted = logits.size(1) - 1;
  const at::Tensor following = labels.to(logits.device()).roll(-1, 1);
  const at::Tensor tokens = following.masked_fill(following.eq(kIgnoredLabel), 0).reshape({-1});
  // What follows the last token is the first one here, and left out.
  const auto but_last = [&](const at::Tensor& rows) {
    return rows.view(labels.sizes()).narrow(1, 0, predicted).reshape({-1});
  };
  const at::Tensor logarithms = but_last(log_probabilities(logits.reshape({-1, logits.size(2)}), tokens));
  const at::Tensor ignored = but_last(following.masked_fill(following.ne(kIgnoredLabel), 0));
  return at::nll_loss(logarithms.unsqueeze(1), ignored, {}, at::Reduction::Mean, kIgnoredLabel);
}

}  // namespace deepscale
