// A line at the end of a terminal that shows how something stands. It is written anew as often as one likes,
// and gives way to other lines.
//
// The cursor is left at its begin, so that whoever knows nothing of it writes over it. Any thread may call.
#pragma once

#include <cstddef>
#include <mutex>
#include <ostream>
#include <string>

namespace deepscale {

class StatusLine {
 public:
  // `terminal` must outlive it.
  explicit StatusLine(std::ostream& terminal) : terminal_(terminal) {}
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  // An empty one: none from now on.
  void show(const std::string& line);
  // Wipes it. While the result lives none is shown, so another line can be written.
  [[nodiscard]] std::unique_lock<std::mutex> give_way();

 private:
  void write(const std::string& line);

  std::ostream& terminal_;
  std::mutex mutex_;
  std::size_t width_ = 0;  // of what stands there
};

}  // namespace deepscale
