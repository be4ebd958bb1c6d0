#include "runtime/inference/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comm/base/error.h"

namespace deepscale {

TokenChooser::TokenChooser(const GenerationOptions& options)
    : samples_(options.samples),
      temperature_(options.temperature),
      top_p_(options.top_p),
      top_k_(options.top_k),
      random_(options.seed) {
  if (!(temperature_ > 0))
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("a temperature of {} cannot be sampled with: give one above 0, or generate greedily",
                    temperature_));
  if (!(top_p_ > 0 && top_p_ <= 1))
    throw Error(ErrorCode::kInvalidArgument, fmt::format("top_p is {} and has to be in (0, 1]", top_p_));
}

std::int32_t TokenChooser::choose(std::span<const float> logits) {
  if (!samples_)
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::size_t kept =
      top_k_ > 0 ? std::min<std::size_t>(static_cast<std::size_t>(top_k_), order.size()) : order.size();
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    [&](std::int32_t left, std::int32_t right) {
                      return logits[left] != logits[right] ? logits[left] > logits[right] : left < right;
                    });
  std::vector<double> weights(kept);
  for (std::size_t i = 0; i < kept; ++i)
    weights[i] = std::exp((static_cast<double>(logits[order[i]]) - logits[order[0]]) / temperature_);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  double reached = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    reached += weights[i];
    if (reached >= top_p_ * sum) {
      weights.resize(i + 1);
      break;
    }
  }
  return order[std::discrete_distribution<std::size_t>(weights.begin(), weights.end())(random_)];
}

namespace {

void check(const Decoder& decoder, std::span<const std::vector<std::int32_t>> prompts,
           const GenerationOptions& options) {
  for (const std::vector<std::int32_t>& prompt : prompts) {
    if (prompt.empty())
      throw Error(ErrorCode::kInvalidArgument, "a prompt has no tokens: give it at least one");
    const std::int64_t needed = static_cast<std::int64_t>(prompt.size()) + options.new_tokens - 1;
    if (needed > decoder.positions())
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("a prompt of {} tokens and {} new ones need {} positions, and there are {}: "
                              "shorten one of them",
                              prompt.size(), options.new_tokens, needed, decoder.positions()));
  }
}

}  // namespace

Generation generate(Decoder& decoder, std::span<const std::vector<std::int32_t>> prompts,
                    const GenerationOptions& options) {
  using Clock = std::chrono::steady_clock;
  check(decoder, prompts, options);
  decoder.reset();
  Generation result;
  result.tokens.resize(prompts.size());
  std::vector<DecoderToken> input;
  for (std::size_t sequence = 0; sequence < prompts.size(); ++sequence)
    for (const std::int32_t token : prompts[sequence])
      input.push_back({static_cast<std::int64_t>(sequence), token});
  std::vector<TokenChooser> choosers;
  for (std::size_t sequence = 0; sequence < prompts.size(); ++sequence) {
    GenerationOptions own = options;
    own.seed += sequence;
    choosers.emplace_back(own);
  }
  std::vector<std::size_t> running(prompts.size());
  std::iota(running.begin(), running.end(), std::size_t{0});
  const auto vocab = static_cast<std::size_t>(decoder.config().vocab_size);
  for (std::int64_t step = 0; step < options.new_tokens && !running.empty(); ++step) {
    const auto start = Clock::now();
    const std::span<const float> logits = decoder.step(input);
    input.clear();
    std::vector<std::size_t> next;
    for (std::size_t i = 0; i < running.size(); ++i) {
      const std::size_t sequence = running[i];
      const std::int32_t token = choosers[sequence].choose(logits.subspan(i * vocab, vocab));
      result.tokens[sequence].push_back(token);
      if (std::find(options.end_tokens.begin(), options.end_tokens.end(), token) != options.end_tokens.end())
        continue;
      next.push_back(sequence);
      input.push_back({static_cast<std::int64_t>(sequence), token});
    }
    (step == 0 ? result.prefill : result.decode) += Clock::now() - start;
    if (step > 0) result.decoded += static_cast<std::int64_t>(running.size());
    running = std::move(next);
    if (options.after_step) options.after_step();
  }
  return result;
}

}  // namespace deepscale
