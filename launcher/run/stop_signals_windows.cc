#include "launcher/run/stop_signals.h"

#include <signal.h>

namespace deepscale {

std::vector<JobSignal> stop_signals() {
  return {{SIGINT, StopSignal::kInterrupt, "Ctrl-C", false},
          {SIGBREAK, StopSignal::kTerminate, "Ctrl-Break", true},
          {SIGTERM, StopSignal::kTerminate, "SIGTERM", true}};
}

}  // namespace deepscale
