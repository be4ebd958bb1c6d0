#include "launcher/run/stop_signals.h"

#include <signal.h>

namespace deepscale {

std::vector<JobSignal> stop_signals() {
  return {{SIGINT, StopSignal::kInterrupt, "Ctrl-C"},
          {SIGBREAK, StopSignal::kTerminate, "Ctrl-Break"},
          {SIGTERM, StopSignal::kTerminate, "SIGTERM"}};
}

}  // namespace deepscale
