// How much memory this process has held.
#pragma once

#include <cstdint>

namespace deepscale {

// The most bytes of memory that were resident at a time since the process started; 0 where the system does
// not say. Linux: getrusage(2); Windows: PeakWorkingSetSize.
std::int64_t peak_resident_bytes();

}  // namespace deepscale
