// Many fp16 values from and to fp32 at once, with the processor's own instructions where it has them.
//
// The same bits as fp16_to_float() and float_to_fp16() (half.h) give, but that a signalling NaN may be made
// quiet on the way to fp32 already. Nothing has to be aligned.
#pragma once

#include <cstddef>
#include <cstdint>

#include "comm/base/instruction_set.h"

namespace deepscale {

struct HalfBlocks {
  void (*widen)(const std::byte* halves, float* floats, std::int64_t count);
  void (*narrow)(const float* floats, std::byte* halves, std::int64_t count);
};

const HalfBlocks& half_blocks(InstructionSet set);

}  // namespace deepscale
