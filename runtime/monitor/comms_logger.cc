#include "runtime/monitor/comms_logger.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>

namespace deepscale {
namespace {

class RecordedWork final : public Work::State {
 public:
  struct Operation {
    std::string name;
    std::size_t bytes;
    std::shared_ptr<CommsRecord> record;
  };
  RecordedWork(Work work, Operation operation, Clock::time_point begin)
      : work_(std::move(work)), operation_(std::move(operation)), begin_(begin) {}

  bool is_done() const override {
    const bool done = work_.is_done();
    if (done) note();
    return done;
  }
  void wait() override {
    work_.wait();
    note();
  }

 private:
  void note() const {
    if (operation_.record == nullptr) return;
    const std::chrono::duration<double> elapsed = Clock::now() - begin_;
    operation_.record->add(operation_.name, operation_.bytes, elapsed.count());
    operation_.record.reset();
  }

  Work work_;
  mutable Operation operation_;
  const Clock::time_point begin_;
};

class RecordingCommunicator final : public Communicator {
 public:
  RecordingCommunicator(std::shared_ptr<Communicator> inner, std::shared_ptr<CommsRecord> record)
      : inner_(std::move(inner)), record_(std::move(record)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const char* backend() const override { return inner_->backend(); }
  bool supports(DeviceKind device) const override { return inner_->supports(device); }
  Work all_reduce(Buffer buffer, ReduceOp op) override {
    return recorded("all_reduce", buffer.bytes(), [&] { return inner_->all_reduce(buffer, op); });
  }
  Work reduce_scatter(Buffer input, Buffer output, ReduceOp op) override {
    return recorded("reduce_scatter", input.bytes(),
                    [&] { return inner_->reduce_scatter(input, output, op); });
  }
  Work all_gather(Buffer input, Buffer output) override {
    return recorded("all_gather", output.bytes(), [&] { return inner_->all_gather(input, output); });
  }
  Work broadcast(Buffer buffer, int root) override {
    return recorded("broadcast", buffer.bytes(), [&] { return inner_->broadcast(buffer, root); });
  }
  Work all_to_all(Buffer input, Buffer output) override {
    return recorded("all_to_all", input.bytes(), [&] { return inner_->all_to_all(input, output); });
  }
  Work send(Buffer buffer, int destination) override {
    return recorded("send", buffer.bytes(), [&] { return inner_->send(buffer, destination); });
  }
  Work receive(Buffer buffer, int source) override {
    return recorded("receive", buffer.bytes(), [&] { return inner_->receive(buffer, source); });
  }
  Work barrier() override {
    return recorded("barrier", 0, [&] { return inner_->barrier(); });
  }
  std::shared_ptr<std::byte> allocate_shared(std::size_t bytes) override {
    return inner_->allocate_shared(bytes);
  }
  bool has_common_memory() const override { return inner_->has_common_memory(); }
  std::shared_ptr<std::byte> allocate_common(std::size_t bytes) override {
    return inner_->allocate_common(bytes);
  }
  // Its operations are the program's, and not recorded.
  std::unique_ptr<Communicator> split(int color, int key) override { return inner_->split(color, key); }
  void abort(const std::string& reason) override { inner_->abort(reason); }

 private:
  template <typename Start>
  Work recorded(const char* name, std::size_t bytes, Start start) {
    if (!record_->wants(name)) return start();
    const Clock::time_point begin = Clock::now();
    Work work = start();
    return Work(std::make_shared<RecordedWork>(std::move(work), RecordedWork::Operation{name, bytes, record_},
                                               begin));
  }

  const std::shared_ptr<Communicator> inner_;
  const std::shared_ptr<CommsRecord> record_;
};

std::string readable(std::size_t bytes) {
  const char* const units[] = {"B", "KB", "MB", "GB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1000.0 && unit + 1 < std::size(units); ++unit) value /= 1000.0;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 2, units[unit]);
}

// Bytes on the wire of each rank over bytes of the message, for the algorithms that need the fewest.
double bus_factor(const std::string& operation, int world_size) {
  const double others = static_cast<double>(world_size - 1) / world_size;
  if (operation == "all_reduce") return 2.0 * others;
  if (operation == "all_gather" || operation == "reduce_scatter" || operation == "all_to_all") return others;
  return 1.0;
}

}  // namespace

CommsRecord::CommsRecord(CommsLoggerConfig config, Logger logger)
    : config_(std::move(config)), logger_(std::move(logger)) {}

bool CommsRecord::wants(const std::string& operation) const {
  if (config_.prof_all) return true;
  return std::find(config_.prof_ops.begin(), config_.prof_ops.end(), operation) != config_.prof_ops.end();
}

void CommsRecord::add(const std::string& operation, std::size_t bytes, double seconds) {
  Total& total = totals_[{operation, bytes}];
  ++total.count;
  total.seconds += seconds;
  total.longest_seconds = std::max(total.longest_seconds, seconds);
  if (config_.verbose) {
    logger_.info("{}: {} in {:.3f} ms, {:.2f} GB/s", operation, readable(bytes), seconds * 1e3,
                 seconds > 0 ? static_cast<double>(bytes) / seconds / 1e9 : 0.0);
  }
}

std::string CommsRecord::table(int world_size) const {
  if (totals_.empty()) return "";
  std::string text =
      fmt::format("{:<16} {:>12} {:>8} {:>12} {:>12} {:>12} {:>10} {:>10}\n", "operation", "message", "count",
                  "total ms", "average ms", "longest ms", "GB/s", "bus GB/s");
  for (const auto& [key, total] : totals_) {
    const double moved = static_cast<double>(key.second) * static_cast<double>(total.count);
    const double speed = total.seconds > 0 ? moved / total.seconds / 1e9 : 0.0;
    text += fmt::format("{:<16} {:>12} {:>8} {:>12.3f} {:>12.3f} {:>12.3f} {:>10.3f} {:>10.3f}\n", key.first,
                        readable(key.second), total.count, total.seconds * 1e3,
                        total.seconds * 1e3 / static_cast<double>(total.count), total.longest_seconds * 1e3,
                        speed, speed * bus_factor(key.first, world_size));
  }
  return text;
}

std::shared_ptr<Communicator> make_recording_communicator(std::shared_ptr<Communicator> communicator,
                                                          std::shared_ptr<CommsRecord> record) {
  return std::make_shared<RecordingCommunicator>(std::move(communicator), std::move(record));
}

}  // namespace deepscale
