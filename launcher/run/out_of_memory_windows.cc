#include "launcher/run/failure_report.h"

namespace deepscale {

// Windows kills nobody for lack of memory: an allocation beyond the commit limit fails, and the program says
// so itself.
std::optional<std::int64_t> count_out_of_memory_kills(const std::string&) {
  return std::nullopt;
}

std::optional<bool> kernel_log_names(std::int64_t, Clock::time_point) {
  return std::nullopt;
}

}  // namespace deepscale
