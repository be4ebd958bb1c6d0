#include <fmt/core.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>

#include "comm/base/error.h"
#include "runtime/checkpoint/crc32.h"
#include "runtime/monitor/monitor.h"
#include "runtime/monitor/output_folder.h"

namespace deepscale {
namespace {

double seconds_since_1970() {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return now.count();
}

// Little-endian, in so many bytes.
std::string bytes_of(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text.push_back(static_cast<char>(value >> (8 * i)));
  return text;
}

// Protocol Buffers' variable-length numbers: seven bits a byte, the lowest first.
std::string varint(std::uint64_t value) {
  std::string text;
  for (; value >= 0x80; value >>= 7) text.push_back(static_cast<char>(value | 0x80));
  text.push_back(static_cast<char>(value));
  return text;
}

enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string field(int number, WireType type) {
  return varint(static_cast<std::uint64_t>(number) << 3 | type);
}

std::string bytes_field(int number, const std::string& value) {
  return field(number, kBytes) + varint(value.size()) + value;
}

// Event {1: double wall_time, 2: int64 step, 3: string file_version | 5: Summary summary}
std::string event_of(double wall_time, std::int64_t step, const std::string& what) {
  return field(1, kFixed64) + bytes_of(std::bit_cast<std::uint64_t>(wall_time), 8) + field(2, kVarint) +
         varint(static_cast<std::uint64_t>(step)) + what;
}

// TensorFlow masks what it stores, since a CRC of bytes that hold CRCs is a weak one.
std::uint32_t masked(std::uint32_t crc) {
  return (crc >> 15 | crc << 17) + 0xa282ead8U;
}

class TensorboardMonitor final : public Monitor {
 public:
  explicit TensorboardMonitor(const MonitorConfig& config)
      : path_(make_output_folder(config, "tensorboard") /
              fmt::format("events.out.tfevents.{}.{}.{}", static_cast<std::int64_t>(seconds_since_1970()),
                          name_of_this_host(), pid_of_this_process())),
        file_(path_, std::ios::binary) {
    add(event_of(seconds_since_1970(), 0, bytes_field(3, "brain.Event:2")));
    flush();
  }

  void write(const std::vector<MonitorValue>& values) override {
    for (const MonitorValue& value : values) add(tensorboard_event(value, seconds_since_1970()));
  }

  void flush() override {
    file_.flush();
    check();
  }

 private:
  void add(const std::string& event) {
    const std::string record = tensorboard_record(event);
    file_.write(record.data(), static_cast<std::streamsize>(record.size()));
    check();
  }
  void check() const {
    if (file_) return;
    throw Error(ErrorCode::kSystem,
                fmt::format("tensorboard: cannot write to {}: {}", path_.string(), std::strerror(errno)));
  }

  const std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace

// length, masked CRC of the length, payload, masked CRC of the payload
std::string tensorboard_record(const std::string& payload) {
  static const Crc32 crc(Crc32::kCastagnoli);
  const std::string length = bytes_of(payload.size(), 8);
  return length + bytes_of(masked(crc.of(length.data(), length.size())), 4) + payload +
         bytes_of(masked(crc.of(payload.data(), payload.size())), 4);
}

// Summary {1: Value {1: string tag, 2: float simple_value}}
std::string tensorboard_event(const MonitorValue& value, double wall_time) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(static_cast<float>(value.value));
  const std::string scalar = bytes_field(1, value.name) + field(2, kFixed32) + bytes_of(bits, 4);
  return event_of(wall_time, value.step, bytes_field(5, bytes_field(1, scalar)));
}

std::unique_ptr<Monitor> make_tensorboard_monitor(const MonitorConfig& config) {
  return std::make_unique<TensorboardMonitor>(config);
}

}  // namespace deepscale
