#include <windows.h>
// After windows.h, which it needs.
#include <psapi.h>

#include "comm/base/process_memory.h"

namespace deepscale {

std::int64_t peak_resident_bytes() {
  PROCESS_MEMORY_COUNTERS counters{};
  return GetProcessMemoryInfo(GetCurrentProcess(), &counters, sizeof counters)
             ? static_cast<std::int64_t>(counters.PeakWorkingSetSize)
             : 0;
}

}  // namespace deepscale
