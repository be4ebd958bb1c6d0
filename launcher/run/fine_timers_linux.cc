#include "launcher/run/fine_timers.h"

namespace deepscale {

FineTimers::FineTimers() = default;
FineTimers::~FineTimers() = default;

}  // namespace deepscale
