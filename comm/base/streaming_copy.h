// memcpy for data that nobody reads again soon: where the processor can, it goes past the caches and does not
// first read the memory that it overwrites.
#pragma once

#include <cstddef>

namespace deepscale {

void streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes);

// For many small copies: the same without its end. end_streaming() must come before anybody else is told of
// the data.
void begin_streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes);
void end_streaming();

}  // namespace deepscale
