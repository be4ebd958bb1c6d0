// Conversion between fp32 and the two 16-bit floating-point formats, one value at a time.
//
// bf16 is the upper half of an fp32; fp16 is IEEE 754 binary16. Rounding is to nearest, ties to even; what is
// too large for fp16 becomes infinity; a NaN stays a NaN (made quiet). Subnormal fp16 values are exact in
// both directions, also while the processor flushes subnormal fp32 values to zero. Free of branches, so that
// loops over them are vectorised.
#pragma once

#include <bit>
#include <cstdint>

namespace deepscale {

namespace half_detail {

// condition ? yes : no, in arithmetic: compilers turn the operator into a branch where a side computes with
// floats.
inline std::uint32_t select(bool condition, std::uint32_t yes, std::uint32_t no) {
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}

}  // namespace half_detail

inline float bf16_to_float(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

inline std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t quiet_nan = (bits >> 16) | 0x40u;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return static_cast<std::uint16_t>(half_detail::select(is_nan, quiet_nan, rounded));
}

inline float fp16_to_float(std::uint16_t value) {
  constexpr std::uint32_t kBiasDifference = (127u - 15u) << 23;
  const std::uint32_t magnitude = value & 0x7fffu;
  const std::uint32_t shifted = magnitude << 13;
  const std::uint32_t normal = shifted + kBiasDifference;
  const std::uint32_t infinite_or_nan = shifted + 2 * kBiasDifference;
  // A subnormal fp16 counts units of 2^-24; as an integer it needs no subnormal fp32 on the way.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f);
  const std::uint32_t finite = half_detail::select(magnitude < 0x0400u, subnormal, normal);
  const std::uint32_t sign = (value & 0x8000u) << 16;
  return std::bit_cast<float>(sign | half_detail::select(magnitude >= 0x7c00u, infinite_or_nan, finite));
}

inline std::uint16_t float_to_fp16(float value) {
  constexpr std::uint32_t kSmallestNormal = 0x38800000u;  // 2^-14
  constexpr std::uint32_t kFirstInfinite =
      0x477ff000u;  // 65520, halfway between the largest fp16 and the next
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - ((127u - 15u) << 23)) >> 13;
  // One unit in the last place of 0.5 is 2^-24, the unit of subnormal fp16: the addition rounds as wanted.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t quiet_nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  const std::uint32_t finite = half_detail::select(magnitude < kSmallestNormal, subnormal, normal);
  const std::uint32_t special = half_detail::select(magnitude > 0x7f800000u, quiet_nan, 0x7c00u);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  return static_cast<std::uint16_t>(sign | half_detail::select(magnitude >= kFirstInfinite, special, finite));
}

}  // namespace deepscale
