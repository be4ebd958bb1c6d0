// The optimizer loops against the same formulas in double precision, and against each other.
#include "runtime/offload/optimizer_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "comm/base/half.h"

namespace deepscale {
namespace {

constexpr DType kGradientDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
constexpr std::int64_t kNumels[] = {0, 1, 15, 33, 1000, 4099};  // 256: a block

std::uint16_t to_half(float value, DType dtype) {
  return dtype == DType::kBFloat16 ? float_to_bf16(value) : float_to_fp16(value);
}

float from_half(std::uint16_t value, DType dtype) {
  return dtype == DType::kBFloat16 ? bf16_to_float(value) : fp16_to_float(value);
}

// One optimizer's arrays, with room before them so that they can lie at any element.
struct State {
  std::vector<float> master, first, second, gradient32;
  std::vector<std::uint16_t> gradient16, parameter;
  DType gradient_dtype = DType::kFloat32;
  DType parameter_dtype = DType::kFloat32;  // kFloat32: none apart from the master
  std::int64_t offset = 0;

  float gradient(std::size_t i) const {
    return gradient_dtype == DType::kFloat32 ? gradient32[i] : from_half(gradient16[i], gradient_dtype);
  }
  UpdateSpan span(const OptimizerConfig& config) {
    const bool is_32 = gradient_dtype == DType::kFloat32;
    return {.master = master.data() + offset,
            .gradient = is_32 ? static_cast<const void*>(gradient32.data() + offset)
                              : static_cast<const void*>(gradient16.data() + offset),
            .gradient_dtype = gradient_dtype,
            .first_moment = has_first_moment(config) ? first.data() + offset : nullptr,
            .second_moment = has_second_moment(config) ? second.data() + offset : nullptr,
            .parameter = parameter_dtype == DType::kFloat32 ? nullptr : parameter.data() + offset,
            .parameter_dtype = parameter_dtype,
            .numel = static_cast<std::int64_t>(master.size()) - offset};
  }
};

State make_state(std::int64_t numel, DType gradient_dtype, DType parameter_dtype, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  State state;
  state.offset = static_cast<std::int64_t>(random() % 3);
  state.gradient_dtype = gradient_dtype;
  state.parameter_dtype = parameter_dtype;
  for (std::int64_t i = 0; i < numel + state.offset; ++i) {
    state.master.push_back(normal(random));
    state.first.push_back(normal(random));
    state.second.push_back(std::abs(normal(random)));
    state.gradient32.push_back(16.0f * normal(random));
    state.gradient16.push_back(
        gradient_dtype == DType::kFloat32 ? 0 : to_half(state.gradient32.back(), gradient_dtype));
    state.parameter.push_back(0x1234);
  }
  return state;
}

struct Case {
  std::string name;
  OptimizerConfig config;
};

std::vector<Case> cases() {
  const OptimizerConfig adam{.betas = {0.8, 0.95}, .eps = 1e-6, .weight_decay = 0.1};
  std::vector<Case> all = {{"AdamW", adam}, {"Adam", adam}, {"Uncorrected", adam}};
  all[1].config.kind = OptimizerKind::kAdam;
  all[2].config.bias_correction = false;
  all.push_back({"Lion", {.kind = OptimizerKind::kLion, .betas = {0.9, 0.99}, .weight_decay = 0.1}});
  all.push_back({"Adagrad", {.kind = OptimizerKind::kAdagrad, .eps = 1e-10, .weight_decay = 0.1}});
  all.push_back({"Sgd", {.kind = OptimizerKind::kSgd, .weight_decay = 0.1}});
  OptimizerConfig momentum{.kind = OptimizerKind::kSgd, .weight_decay = 0.1, .momentum = 0.7};
  momentum.dampening = 0.2;
  all.push_back({"Momentum", momentum});
  momentum.dampening = 0.0;
  momentum.nesterov = true;
  all.push_back({"Nesterov", momentum});
  return all;
}

struct Expected {
  double weight, first, second;
};

Expected reference_adam(const OptimizerConfig& config, const OptimizerStep& step, double g, Expected e) {
  if (config.kind == OptimizerKind::kAdamW) {
    e.weight -= step.learning_rate * config.weight_decay * e.weight;
  } else {
    g += config.weight_decay * e.weight;
  }
  e.first = step.betas[0] * e.first + (1 - step.betas[0]) * g;
  e.second = step.betas[1] * e.second + (1 - step.betas[1]) * g * g;
  const double n = static_cast<double>(step.number);
  const double correction1 = config.bias_correction ? 1 - std::pow(step.betas[0], n) : 1.0;
  const double correction2 = config.bias_correction ? 1 - std::pow(step.betas[1], n) : 1.0;
  e.weight -= step.learning_rate * (e.first / correction1) / (std::sqrt(e.second / correction2) + config.eps);
  return e;
}

Expected reference_sgd(const OptimizerConfig& config, const OptimizerStep& step, double g, Expected e) {
  g += config.weight_decay * e.weight;
  double direction = g;
  if (config.momentum != 0.0) {
    e.first = step.number == 1 ? config.momentum * e.first + g
                               : config.momentum * e.first + (1 - config.dampening) * g;
    direction = config.nesterov ? g + config.momentum * e.first : e.first;
  }
  e.weight -= step.learning_rate * direction;
  return e;
}

Expected reference(const OptimizerConfig& config, const OptimizerStep& step, double g, Expected e) {
  g *= step.gradient_factor;
  switch (config.kind) {
    case OptimizerKind::kAdam:
    case OptimizerKind::kAdamW:
      return reference_adam(config, step, g, e);
    case OptimizerKind::kSgd:
      return reference_sgd(config, step, g, e);
    case OptimizerKind::kAdagrad:
      g += config.weight_decay * e.weight;
      e.second += g * g;
      e.weight -= step.learning_rate * g / (std::sqrt(e.second) + config.eps);
      return e;
    case OptimizerKind::kLion: {
      const double mixed = step.betas[0] * e.first + (1 - step.betas[0]) * g;
      e.weight -= step.learning_rate * config.weight_decay * e.weight;
      e.weight -= step.learning_rate * (mixed > 0 ? 1 : mixed < 0 ? -1 : 0);
      e.first = step.betas[1] * e.first + (1 - step.betas[1]) * g;
      return e;
    }
  }
  return e;
}

OptimizerStep step_of(const OptimizerConfig& config, std::int64_t number) {
  return {.number = number, .learning_rate = 0.03, .betas = config.betas, .gradient_factor = 0.0625};
}

void expect_near(float actual, double expected) {
  EXPECT_NEAR(actual, expected, 4e-6 * (1.0 + std::abs(expected)));
}

void expect_reference(const Case& test, State state, std::int64_t number) {
  const State before = state;
  const OptimizerStep step = step_of(test.config, number);
  update(make_update_rule(test.config, step), state.span(test.config));
  for (std::size_t i = 0; i < state.master.size(); ++i) {
    SCOPED_TRACE(test.name + ", element " + std::to_string(i) + " of " + std::to_string(state.master.size()));
    Expected expected{before.master[i], before.first[i], before.second[i]};
    const bool is_inside = static_cast<std::int64_t>(i) >= state.offset;
    if (is_inside) expected = reference(test.config, step, before.gradient(i), expected);
    expect_near(state.master[i], expected.weight);
    expect_near(state.first[i], expected.first);
    expect_near(state.second[i], expected.second);
    const bool writes = is_inside && state.parameter_dtype != DType::kFloat32;
    EXPECT_EQ(state.parameter[i], writes ? to_half(state.master[i], state.parameter_dtype) : 0x1234);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(OptimizerKernels, FollowTheFormulas) {
  unsigned seed = 0;
  for (const Case& test : cases()) {
    for (const std::int64_t numel : kNumels) {
      for (const DType gradient : kGradientDTypes) {
        for (const DType parameter : kGradientDTypes) {
          for (const std::int64_t number : {1, 2, 100}) {
            expect_reference(test, make_state(numel, gradient, parameter, ++seed), number);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

bool same_bits(const State& left, const State& right) {
  const auto same = [](const auto& a, const auto& b) {
    return a.size() == b.size() &&
           (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0);
  };
  return same(left.master, right.master) && same(left.first, right.first) &&
         same(left.second, right.second) && same(left.parameter, right.parameter);
}

TEST(OptimizerKernels, EveryInstructionSetAndDivisionGivesTheSameBits) {
  unsigned seed = 0;
  for (const Case& test : cases()) {
    for (const DType gradient : kGradientDTypes) {
      for (const DType parameter : kGradientDTypes) {
        const State before = make_state(2077, gradient, parameter, ++seed);
        const UpdateRule rule = make_update_rule(test.config, step_of(test.config, 7));
        State whole = before;
        update_with(InstructionSet::kPortable, rule, whole.span(test.config));
        EXPECT_FALSE(same_bits(before, whole)) << test.name;
        for (const InstructionSet set : {InstructionSet::kAvx2, InstructionSet::kAvx512}) {
          State other = before;
          update_with(set, rule, other.span(test.config));
          EXPECT_TRUE(same_bits(whole, other)) << test.name << " with set " << static_cast<int>(set);
        }
        State divided = before;
        const UpdateSpan span = divided.span(test.config);
        for (const auto& [begin, count] : {std::pair{1000, 1077}, {0, 3}, {3, 997}})
          update(rule, span.part(begin, count));
        EXPECT_TRUE(same_bits(whole, divided)) << test.name;
      }
    }
  }
}

// Many parameters are written past the caches.
TEST(OptimizerKernels, WriteManyParametersInBlocks) {
  const OptimizerConfig config = cases()[0].config;
  State state = make_state(300'001, DType::kBFloat16, DType::kBFloat16, 5);
  update(make_update_rule(config, step_of(config, 2)), state.span(config));
  for (std::size_t i = 0; i < state.parameter.size(); ++i) {
    const bool is_inside = static_cast<std::int64_t>(i) >= state.offset;
    ASSERT_EQ(state.parameter[i], is_inside ? float_to_bf16(state.master[i]) : 0x1234) << "element " << i;
  }
}

TEST(OptimizerKernels, ManyParametersGetTheSameBitsAsFew) {
  constexpr std::int64_t kFew = 50'001;
  for (const Case& test : cases()) {
    State many = make_state(200'003, DType::kBFloat16, DType::kBFloat16, 9);
    State few = many;
    const UpdateRule rule = make_update_rule(test.config, step_of(test.config, 7));
    update(rule, many.span(test.config));
    const UpdateSpan span = few.span(test.config);
    for (std::int64_t begin = 0; begin < span.numel; begin += kFew) {
      update_with(InstructionSet::kPortable, rule, span.part(begin, std::min(kFew, span.numel - begin)));
    }
    EXPECT_TRUE(same_bits(many, few)) << test.name;
  }
}

// A gradient that is not a number must show in the weights, whatever the optimizer is (but for Lion's sign).
TEST(OptimizerKernels, ANanStaysOne) {
  for (const Case& test : cases()) {
    State state = make_state(40, DType::kFloat32, DType::kBFloat16, 1);
    const auto last = state.master.size() - 1;
    state.gradient32[last] = std::nanf("");
    update(make_update_rule(test.config, step_of(test.config, 2)), state.span(test.config));
    const bool is_lion = test.config.kind == OptimizerKind::kLion;
    EXPECT_TRUE(std::isnan(is_lion ? state.first[last] : state.master[last])) << test.name;
    EXPECT_FALSE(std::isnan(state.master[last - 1])) << test.name;
    if (!is_lion) {
      EXPECT_TRUE(std::isnan(bf16_to_float(state.parameter[last]))) << test.name;
    }
  }
}

}  // namespace
}  // namespace deepscale
