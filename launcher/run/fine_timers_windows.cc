#include "launcher/run/fine_timers.h"

#include <windows.h>

#include <timeapi.h>

namespace deepscale {
namespace {
constexpr UINT kMilliseconds = 1;
}

// The system counts these calls, and since Windows 10 they concern this process only.
FineTimers::FineTimers() {
  timeBeginPeriod(kMilliseconds);
}
FineTimers::~FineTimers() {
  timeEndPeriod(kMilliseconds);
}

}  // namespace deepscale
