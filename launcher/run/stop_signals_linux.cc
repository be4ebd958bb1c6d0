#include "launcher/run/stop_signals.h"

#include <signal.h>

namespace deepscale {

std::vector<JobSignal> stop_signals() {
  std::vector<JobSignal> signals = {{SIGINT, StopSignal::kInterrupt, "SIGINT", false},
                                    {SIGTERM, StopSignal::kTerminate, "SIGTERM", true},
                                    {SIGHUP, StopSignal::kHangup, "SIGHUP", false},
                                    {SIGUSR1, StopSignal::kUser1, "SIGUSR1", true},
                                    {SIGUSR2, StopSignal::kUser2, "SIGUSR2", true}};
  std::erase_if(signals, [](const JobSignal& signal) {
    struct sigaction action {};
    return sigaction(signal.number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
  });
  return signals;
}

}  // namespace deepscale
