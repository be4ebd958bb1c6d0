#include "runtime/monitor/step_display.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace deepscale {

void StepDisplay::show(std::int64_t step, const std::string& detail, Clock::time_point now) {
  constexpr std::chrono::milliseconds kPeriod{200};
  if (shown_step_ >= 0 && now - shown_at_ < kPeriod) return;
  std::string line = fmt::format("step {}", step);
  if (shown_step_ >= 0 && step > shown_step_) {
    const std::chrono::duration<double> time = now - shown_at_;
    line += fmt::format(", {:.3g} steps/s", static_cast<double>(step - shown_step_) / time.count());
  }
  if (!detail.empty()) line += ", " + detail;
  write(line);
  shown_step_ = step;
  shown_at_ = now;
}

// Windows' older consoles have no sequence that clears a line.
void StepDisplay::write(const std::string& line) {
  if (line.empty() && width_ == 0) return;
  terminal_ << '\r' << line << std::string(width_ - std::min(width_, line.size()), ' ') << '\r' << std::flush;
  width_ = line.size();
}

}  // namespace deepscale
