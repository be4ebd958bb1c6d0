#include "comm/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <iostream>

#include "comm/base/error.h"
#include "comm/base/status_line.h"

namespace deepscale {

// A logger of its own, outside spdlog's global registry.
struct Logger::Sink {
  explicit Sink(std::string_view name)
      : logger(std::string(name), std::make_shared<spdlog::sinks::stderr_sink_mt>()) {
    logger.set_level(spdlog::level::debug);
    logger.set_pattern("[%Y-%m-%d %H:%M:%S.%e] [%n] [%l] %v");
    logger.flush_on(spdlog::level::debug);
  }
  spdlog::logger logger;
  StatusLine status{std::cerr};
};

LogLevel parse_log_level(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning" || name == "warn") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("'{}' is not a log level; known are debug, info, warning, error, off", name));
}

Logger::Logger(std::string_view name, LogLevel level) : sink_(std::make_shared<Sink>(name)), level_(level) {}

std::shared_ptr<StatusLine> Logger::status_line() const {
  return sink_ ? std::shared_ptr<StatusLine>(sink_, &sink_->status) : nullptr;
}

void Logger::write(LogLevel level, const std::string& line) const {
  const auto no_status = sink_->status.give_way();
  switch (level) {
    case LogLevel::kDebug:
      sink_->logger.debug(line);
      break;
    case LogLevel::kInfo:
      sink_->logger.info(line);
      break;
    case LogLevel::kWarning:
      sink_->logger.warn(line);
      break;
    case LogLevel::kError:
      sink_->logger.error(line);
      break;
    case LogLevel::kOff:
      break;
  }
}

}  // namespace deepscale
