// The state of a step loop on a terminal: one line that is written anew while steps end, a few times a
// second, and is gone when the loop is.
//
// The cursor is left at the line's begin, so that whatever else is written there takes its place. Threads:
// one.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>

#include "comm/base/clock.h"

namespace deepscale {

class StepDisplay {
 public:
  // `terminal` must outlive it.
  explicit StepDisplay(std::ostream& terminal) : terminal_(terminal) {}
  ~StepDisplay() { write(""); }
  StepDisplay(const StepDisplay&) = delete;
  StepDisplay& operator=(const StepDisplay&) = delete;

  // `step` has ended; `detail` stands behind its number and the steps a second ("loss 0.5"), and may be
  // empty.
  void show(std::int64_t step, const std::string& detail, Clock::time_point now = Clock::now());

 private:
  void write(const std::string& line);

  std::ostream& terminal_;
  std::size_t width_ = 0;  // of what stands there
  std::int64_t shown_step_ = -1;
  Clock::time_point shown_at_;
};

}  // namespace deepscale
