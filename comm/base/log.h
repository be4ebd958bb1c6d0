// Log lines of the libraries, on stderr, through spdlog. Programs' own output is not a log and does not go
// here.
//
// A Logger is a value that is cheap to copy and may be used from any thread; it is passed to whoever logs.
// Its level is fixed when it is made. Writing never throws and does not block beyond the write itself. A
// status line of the same Logger or a copy of it gives way to each line.
#pragma once

#include <fmt/core.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace deepscale {

class StatusLine;

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// "debug", "info", "warning" (or "warn"), "error", "off"; Error(kInvalidArgument) lists them.
LogLevel parse_log_level(std::string_view name);

class Logger {
 public:
  // Drops every line.
  Logger() = default;
  // `name` stands in each line, for example "rank 3".
  Logger(std::string_view name, LogLevel level);

  template <typename... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::kDebug)) write(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::kInfo)) write(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::kWarning))
      write(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) const {
    if (enabled(LogLevel::kError)) write(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
  }

  // On stderr, shared by all copies. Null where every line is dropped.
  std::shared_ptr<StatusLine> status_line() const;

  bool enabled(LogLevel level) const { return sink_ != nullptr && level >= level_; }

 private:
  struct Sink;
  void write(LogLevel level, const std::string& line) const;

  std::shared_ptr<Sink> sink_;
  LogLevel level_ = LogLevel::kOff;
};

}  // namespace deepscale
