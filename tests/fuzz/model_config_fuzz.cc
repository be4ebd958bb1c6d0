// Any bytes as a config.json: a ModelConfig whose rotary frequencies can be computed, or an Error; nothing
// else.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/pretrained/model_config.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  deepscale::ModelConfig config;
  try {
    config = deepscale::parse_model_config({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const deepscale::Error&) {
    return 0;
  }
  using deepscale::testing::require;
  require(config.attention_heads % config.key_value_heads == 0, "heads are in groups");
  if (config.head_size > 4096) return 0;
  for (const std::int64_t length : {1, 100'000}) {
    for (const float radians : deepscale::rope_frequencies(config, length).radians_per_position) {
      require(std::isfinite(radians), "a frequency is finite");
    }
  }
  return 0;
}
