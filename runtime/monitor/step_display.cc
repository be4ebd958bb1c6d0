#include "runtime/monitor/step_display.h"

#include <fmt/format.h>

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
  line_->show(line);
  shown_step_ = step;
  shown_at_ = now;
}

}  // namespace deepscale
