#include "comm/base/status_line.h"

#include <algorithm>

namespace deepscale {

void StatusLine::show(const std::string& line) {
  const std::lock_guard lock(mutex_);
  write(line);
}

std::unique_lock<std::mutex> StatusLine::give_way() {
  std::unique_lock lock(mutex_);
  write("");
  return lock;
}

// Windows' older consoles have no sequence that clears a line.
void StatusLine::write(const std::string& line) {
  if (line.empty() && width_ == 0) return;
  terminal_ << '\r' << line << std::string(width_ - std::min(width_, line.size()), ' ') << '\r' << std::flush;
  width_ = line.size();
}

}  // namespace deepscale
