// The state of a step loop on a terminal: one line that is written anew while steps end, a few times a
// second, and is gone when the loop is.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "comm/base/clock.h"
#include "comm/base/status_line.h"

namespace deepscale {

class StepDisplay {
 public:
  explicit StepDisplay(std::shared_ptr<StatusLine> line) : line_(std::move(line)) {}
  ~StepDisplay() { line_->show(""); }
  StepDisplay(const StepDisplay&) = delete;
  StepDisplay& operator=(const StepDisplay&) = delete;

  // `step` has ended; `detail` stands behind its number and the steps a second ("loss 0.5"), and may be
  // empty.
  void show(std::int64_t step, const std::string& detail, Clock::time_point now = Clock::now());

 private:
  const std::shared_ptr<StatusLine> line_;
  std::int64_t shown_step_ = -1;
  Clock::time_point shown_at_;
};

}  // namespace deepscale
