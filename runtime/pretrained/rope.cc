#include <cmath>

#include "runtime/pretrained/model_config.h"

namespace deepscale {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Long waves are slowed by the factor, short ones are kept, and those between are blended (Llama 3.1).
double llama3_radians(const RopeConfig& rope, double radians) {
  const double wavelength = 2.0 * kPi / radians;
  const auto original = static_cast<double>(rope.original_max_positions);
  if (wavelength < original / rope.high_frequency_factor) return radians;
  if (wavelength > original / rope.low_frequency_factor) return radians / rope.factor;
  const double kept = (original / wavelength - rope.low_frequency_factor) /
                      (rope.high_frequency_factor - rope.low_frequency_factor);
  return (1.0 - kept) * radians / rope.factor + kept * radians;
}

double long_attention_factor(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  if (rope.attention_factor > 0.0) return rope.attention_factor;
  const auto original = static_cast<double>(rope.original_max_positions);
  const double factor =
      rope.factor > 0.0 ? rope.factor : static_cast<double>(config.max_positions) / original;
  return factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(factor) / std::log(original));
}

}  // namespace

RopeFrequencies rope_frequencies(const ModelConfig& config, std::int64_t sequence_length) {
  const RopeConfig& rope = config.rope;
  const auto size = static_cast<std::size_t>(static_cast<double>(config.head_size) * rope.rotary_fraction);
  const bool is_long =
      rope.scaling == RopeConfig::Scaling::kLong && sequence_length > rope.original_max_positions;
  RopeFrequencies result;
  for (std::size_t i = 0; i < size / 2; ++i) {
    double radians = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(size));
    switch (rope.scaling) {
      case RopeConfig::Scaling::kNone:
        break;
      case RopeConfig::Scaling::kLinear:
        radians /= rope.factor;
        break;
      case RopeConfig::Scaling::kLlama3:
        radians = llama3_radians(rope, radians);
        break;
      case RopeConfig::Scaling::kLong:
        radians /= (is_long ? rope.long_factors : rope.short_factors)[i];
        break;
    }
    result.radians_per_position.push_back(static_cast<float>(radians));
  }
  if (rope.scaling == RopeConfig::Scaling::kLong) result.attention_factor = long_attention_factor(config);
  return result;
}

RopeTable rope_table(const ModelConfig& config, std::int64_t positions) {
  if (config.architecture != Architecture::kLlama && config.architecture != Architecture::kPhi3) return {};
  const RopeFrequencies frequencies = rope_frequencies(config, positions);
  RopeTable table{.pairs = static_cast<std::int64_t>(frequencies.radians_per_position.size())};
  for (std::int64_t position = 0; position < positions; ++position) {
    for (const float radians : frequencies.radians_per_position) {
      const float angle = static_cast<float>(position) * radians;
      table.cosines.push_back(std::cos(angle) * static_cast<float>(frequencies.attention_factor));
      table.sines.push_back(std::sin(angle) * static_cast<float>(frequencies.attention_factor));
    }
  }
  return table;
}

}  // namespace deepscale
