#include "launcher/run/stop_signals.h"

#include <signal.h>

namespace deepscale {

std::vector<JobSignal> stop_signals() {
  std::vector<JobSignal> signals = {{SIGINT, StopSignal::kInterrupt, "SIGINT"},
                                    {SIGTERM, StopSignal::kTerminate, "SIGTERM"},
                                    {SIGHUP, StopSignal::kHangup, "SIGHUP"},
                                    {SIGUSR1, StopSignal::kUser1, "SIGUSR1"},
                                    {SIGUSR2, StopSignal::kUser2, "SIGUSR2"}};
  std::erase_if(signals, [](const JobSignal& signal) {
    struct sigaction action {};
    return sigaction(signal.number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
  });
  return signals;
}

}  // namespace deepscale
