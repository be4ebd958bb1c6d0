#include <sys/resource.h>

#include "comm/base/process_memory.h"

namespace deepscale {

std::int64_t peak_resident_bytes() {
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? std::int64_t{usage.ru_maxrss} * 1024 : 0;
}

}  // namespace deepscale
