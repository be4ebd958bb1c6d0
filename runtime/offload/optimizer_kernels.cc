#include "runtime/offload/optimizer_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "comm/base/half.h"
#include "comm/base/streaming_copy.h"

namespace deepscale {
namespace {

struct Float32 {
  using Stored = float;
  DEEPSCALE_INLINE static float load(Stored value) { return value; }
  DEEPSCALE_INLINE static Stored store(float value) { return value; }
};

struct BFloat16 {
  using Stored = std::uint16_t;
  DEEPSCALE_INLINE static float load(Stored value) { return bf16_to_float(value); }
  DEEPSCALE_INLINE static Stored store(float value) { return float_to_bf16(value); }
};

struct Float16 {
  using Stored = std::uint16_t;
  DEEPSCALE_INLINE static float load(Stored value) { return fp16_to_float(value); }
  DEEPSCALE_INLINE static Stored store(float value) { return float_to_fp16(value); }
};

struct NoParameter : Float32 {};

// One element. What an optimizer does not keep is neither read nor written.
struct Element {
  float weight;
  float gradient;
  float first;
  float second;
};

template <bool kDecoupled>
struct AdamLoop {
  static constexpr bool kHasFirst = true;
  static constexpr bool kHasSecond = true;
  DEEPSCALE_INLINE static void apply(const UpdateRule& rule, Element& e) {
    if constexpr (kDecoupled) {
      e.weight *= rule.decay;
    } else {
      e.gradient += rule.l2 * e.weight;
    }
    e.first = rule.kept[0] * e.first + rule.added[0] * e.gradient;
    e.second = rule.kept[1] * e.second + rule.added[1] * (e.gradient * e.gradient);
    const float denominator = std::sqrt(e.second) * rule.root_factor + rule.eps;
    e.weight -= rule.learning_rate * (e.first / denominator);
  }
};

struct AdagradLoop {
  static constexpr bool kHasFirst = false;
  static constexpr bool kHasSecond = true;
  DEEPSCALE_INLINE static void apply(const UpdateRule& rule, Element& e) {
    e.gradient += rule.l2 * e.weight;
    e.second += e.gradient * e.gradient;
    e.weight -= rule.learning_rate * (e.gradient / (std::sqrt(e.second) + rule.eps));
  }
};

struct LionLoop {
  static constexpr bool kHasFirst = true;
  static constexpr bool kHasSecond = false;
  DEEPSCALE_INLINE static void apply(const UpdateRule& rule, Element& e) {
    const float mixed = rule.kept[0] * e.first + rule.added[0] * e.gradient;
    const float sign = static_cast<float>(mixed > 0.0f) - static_cast<float>(mixed < 0.0f);
    e.weight = rule.decay * e.weight - rule.learning_rate * sign;
    e.first = rule.kept[1] * e.first + rule.added[1] * e.gradient;
  }
};

struct SgdLoop {
  static constexpr bool kHasFirst = false;
  static constexpr bool kHasSecond = false;
  DEEPSCALE_INLINE static void apply(const UpdateRule& rule, Element& e) {
    e.weight -= rule.learning_rate * (e.gradient + rule.l2 * e.weight);
  }
};

struct MomentumLoop {
  static constexpr bool kHasFirst = true;
  static constexpr bool kHasSecond = false;
  DEEPSCALE_INLINE static void apply(const UpdateRule& rule, Element& e) {
    e.gradient += rule.l2 * e.weight;
    e.first = rule.kept[0] * e.first + rule.added[0] * e.gradient;
    e.weight -= rule.learning_rate * (rule.direction[0] * e.gradient + rule.direction[1] * e.first);
  }
};

// New parameters are gathered in a block that stays in the first-level cache, and leave it past the caches
// where there are many: memory that is only written need not be read first. The block is small so that these
// stores spread over the time of the reads.
constexpr std::int64_t kBlock = 256;
constexpr std::int64_t kStreamedNumel = 128 * 1024;
constexpr std::size_t kLineBytes = 64;

// The processor's own prefetching ends with a page, and sees a 2-byte stream late beside the 4-byte ones.
constexpr std::int64_t kFetchedAhead = 2048;
constexpr std::int64_t kFetchedNumel = 64;  // at a time: whole lines of every array

template <typename Value>
DEEPSCALE_INLINE void fetch_ahead(const Value* data) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data + kFetchedAhead);
  for (std::size_t line = 0; line < kFetchedNumel * sizeof(Value); line += kLineBytes)
    DEEPSCALE_PREFETCH(bytes + line);
}

template <typename Loop, typename Gradient>
DEEPSCALE_INLINE void fetch_ahead(const UpdateSpan& span, std::int64_t begin) {
  fetch_ahead(span.master + begin);
  fetch_ahead(static_cast<const typename Gradient::Stored*>(span.gradient) + begin);
  if constexpr (Loop::kHasFirst) fetch_ahead(span.first_moment + begin);
  if constexpr (Loop::kHasSecond) fetch_ahead(span.second_moment + begin);
}

// `block` gets the new parameters.
template <typename Loop, typename Gradient, typename Parameter>
DEEPSCALE_INLINE void run_elements(const UpdateRule& rule, const UpdateSpan& span, std::int64_t begin,
                                   std::int64_t count, typename Parameter::Stored* __restrict block) {
  float* __restrict master = span.master + begin;
  const auto* __restrict gradient = static_cast<const typename Gradient::Stored*>(span.gradient) + begin;
  float* __restrict first = Loop::kHasFirst ? span.first_moment + begin : nullptr;
  float* __restrict second = Loop::kHasSecond ? span.second_moment + begin : nullptr;
  for (std::int64_t i = 0; i < count; ++i) {
    Element e{master[i], Gradient::load(gradient[i]) * rule.gradient_factor, 0.0f, 0.0f};
    if constexpr (Loop::kHasFirst) e.first = first[i];
    if constexpr (Loop::kHasSecond) e.second = second[i];
    Loop::apply(rule, e);
    if constexpr (Loop::kHasFirst) first[i] = e.first;
    if constexpr (Loop::kHasSecond) second[i] = e.second;
    master[i] = e.weight;
    if constexpr (!std::is_same_v<Parameter, NoParameter>) block[i] = Parameter::store(e.weight);
  }
}

// So many elements before this one are in its line.
template <typename Stored>
DEEPSCALE_INLINE std::int64_t elements_into_line(const Stored* data) {
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(data) % kLineBytes / sizeof(Stored));
}

template <typename Loop, typename Gradient, typename Parameter>
DEEPSCALE_INLINE void run(const UpdateRule& by_caller, const UpdateSpan& span) {
  const UpdateRule rule = by_caller;  // else every store might change it
  if constexpr (std::is_same_v<Parameter, NoParameter>) {
    run_elements<Loop, Gradient, Parameter>(rule, span, 0, span.numel, nullptr);
  } else {
    using Stored = typename Parameter::Stored;
    alignas(kLineBytes) std::array<Stored, kBlock> block;
    const bool is_streamed = span.numel >= kStreamedNumel;
    for (std::int64_t begin = 0, count = 0; begin < span.numel; begin += count) {
      Stored* target = static_cast<Stored*>(span.parameter) + begin;
      count = std::min(kBlock - elements_into_line(target), span.numel - begin);
      std::int64_t done = 0;
      for (; done + kFetchedNumel <= count; done += kFetchedNumel) {
        if (is_streamed) fetch_ahead<Loop, Gradient>(span, begin + done);
        run_elements<Loop, Gradient, Parameter>(rule, span, begin + done, kFetchedNumel, block.data() + done);
      }
      run_elements<Loop, Gradient, Parameter>(rule, span, begin + done, count - done, block.data() + done);
      auto* to = reinterpret_cast<std::byte*>(target);
      const auto* from = reinterpret_cast<const std::byte*>(block.data());
      const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(Stored);
      if (is_streamed) {
        begin_streaming_copy(to, from, bytes);
      } else {
        std::memcpy(to, from, bytes);
      }
    }
    if (is_streamed) end_streaming();
  }
}

template <typename Loop, typename Gradient>
DEEPSCALE_INLINE void run_parameter(const UpdateRule& rule, const UpdateSpan& span) {
  if (span.parameter == nullptr) return run<Loop, Gradient, NoParameter>(rule, span);
  if (span.parameter_dtype == DType::kBFloat16) return run<Loop, Gradient, BFloat16>(rule, span);
  if (span.parameter_dtype == DType::kFloat16) return run<Loop, Gradient, Float16>(rule, span);
  run<Loop, Gradient, Float32>(rule, span);
}

template <typename Loop>
DEEPSCALE_INLINE void run_gradient(const UpdateRule& rule, const UpdateSpan& span) {
  if (span.gradient_dtype == DType::kBFloat16) return run_parameter<Loop, BFloat16>(rule, span);
  if (span.gradient_dtype == DType::kFloat16) return run_parameter<Loop, Float16>(rule, span);
  run_parameter<Loop, Float32>(rule, span);
}

DEEPSCALE_INLINE void run_any(const UpdateRule& rule, const UpdateSpan& span) {
  switch (rule.kind) {
    case OptimizerKind::kAdamW:
      return run_gradient<AdamLoop<true>>(rule, span);
    case OptimizerKind::kAdam:
      return run_gradient<AdamLoop<false>>(rule, span);
    case OptimizerKind::kAdagrad:
      return run_gradient<AdagradLoop>(rule, span);
    case OptimizerKind::kLion:
      return run_gradient<LionLoop>(rule, span);
    case OptimizerKind::kSgd:
      if (rule.has_momentum) return run_gradient<MomentumLoop>(rule, span);
      return run_gradient<SgdLoop>(rule, span);
  }
}

void update_portable(const UpdateRule& rule, const UpdateSpan& span) {
  run_any(rule, span);
}
DEEPSCALE_FOR_AVX2 void update_avx2(const UpdateRule& rule, const UpdateSpan& span) {
  run_any(rule, span);
}
DEEPSCALE_FOR_AVX512 void update_avx512(const UpdateRule& rule, const UpdateSpan& span) {
  run_any(rule, span);
}

template <typename Pointer>
Pointer* advance(Pointer* data, std::int64_t elements) {
  return data == nullptr ? nullptr : data + elements;
}

}  // namespace

bool has_first_moment(const OptimizerConfig& config) {
  if (config.kind == OptimizerKind::kSgd) return config.momentum != 0.0;
  return config.kind != OptimizerKind::kAdagrad;
}

bool has_second_moment(const OptimizerConfig& config) {
  return config.kind == OptimizerKind::kAdam || config.kind == OptimizerKind::kAdamW ||
         config.kind == OptimizerKind::kAdagrad;
}

UpdateRule make_update_rule(const OptimizerConfig& config, const OptimizerStep& step) {
  const auto single = [](double value) { return static_cast<float>(value); };
  UpdateRule rule;
  rule.kind = config.kind;
  rule.gradient_factor = single(step.gradient_factor);
  rule.learning_rate = single(step.learning_rate);
  rule.decay = single(1.0 - step.learning_rate * config.weight_decay);
  rule.l2 = single(config.weight_decay);
  rule.eps = single(config.eps);
  if (config.kind == OptimizerKind::kSgd) {
    rule.has_momentum = config.momentum != 0.0;
    rule.kept[0] = single(config.momentum);
    rule.added[0] = single(step.number == 1 ? 1.0 : 1.0 - config.dampening);
    rule.direction = {config.nesterov ? 1.0f : 0.0f, config.nesterov ? single(config.momentum) : 1.0f};
    return rule;
  }
  rule.kept = {single(step.betas[0]), single(step.betas[1])};
  rule.added = {single(1.0 - step.betas[0]), single(1.0 - step.betas[1])};
  if ((config.kind == OptimizerKind::kAdam || config.kind == OptimizerKind::kAdamW) &&
      config.bias_correction) {
    const auto number = static_cast<double>(step.number);
    rule.learning_rate = single(step.learning_rate / (1.0 - std::pow(step.betas[0], number)));
    rule.root_factor = single(1.0 / std::sqrt(1.0 - std::pow(step.betas[1], number)));
  }
  return rule;
}

UpdateSpan UpdateSpan::part(std::int64_t begin, std::int64_t count) const {
  UpdateSpan part = *this;
  part.master = advance(master, begin);
  part.gradient = advance(static_cast<const std::byte*>(gradient),
                          begin * static_cast<std::int64_t>(size_of(gradient_dtype)));
  part.first_moment = advance(first_moment, begin);
  part.second_moment = advance(second_moment, begin);
  part.parameter = advance(static_cast<std::byte*>(parameter),
                           begin * static_cast<std::int64_t>(size_of(parameter_dtype)));
  part.numel = count;
  return part;
}

void update_with(InstructionSet set, const UpdateRule& rule, const UpdateSpan& span) {
  switch (available(set)) {
    case InstructionSet::kAvx512:
      return update_avx512(rule, span);
    case InstructionSet::kAvx2:
      return update_avx2(rule, span);
    default:
      return update_portable(rule, span);
  }
}

void update(const UpdateRule& rule, const UpdateSpan& span) {
  update_with(InstructionSet::kBest, rule, span);
}

}  // namespace deepscale
