#include "launcher/run/stop_event.h"

namespace deepscale {

struct StopEvent::Implementation {};

StopEvent::StopEvent() = default;
StopEvent::~StopEvent() = default;

}  // namespace deepscale
