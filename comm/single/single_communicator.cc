// The communicator of a job with one rank: every operation is a local copy or nothing, done when the call
// returns.
#include <cstring>
#include <mutex>
#include <optional>

#include <fmt/core.h>

#include "comm/arguments.h"
#include "comm/base/error.h"
#include "comm/communicator.h"

namespace deepscale {

namespace {

class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const char* backend() const override { return "single"; }
  bool supports(DeviceKind device) const override { return device == DeviceKind::kCpu; }

  Work all_reduce(Buffer buffer, ReduceOp) override {
    check_buffer(*this, "all_reduce", buffer);
    return finished("all_reduce");
  }
  Work reduce_scatter(Buffer input, Buffer output, ReduceOp) override {
    check_whole_and_slice(*this, "reduce_scatter", input, output);
    return copied("reduce_scatter", input, output);
  }
  Work all_gather(Buffer input, Buffer output) override {
    check_whole_and_slice(*this, "all_gather", output, input);
    return copied("all_gather", input, output);
  }
  Work broadcast(Buffer buffer, int root) override {
    check_buffer(*this, "broadcast", buffer);
    check_root(*this, "broadcast", root);
    return finished("broadcast");
  }
  Work all_to_all(Buffer input, Buffer output) override {
    check_equal_shares(*this, "all_to_all", input, output);
    return copied("all_to_all", input, output);
  }
  Work send(Buffer, int destination) override {
    check_peer(*this, "send", destination);
    return finished("send");
  }
  Work receive(Buffer, int source) override {
    check_peer(*this, "receive", source);
    return finished("receive");
  }
  Work barrier() override { return finished("barrier"); }
  std::unique_ptr<Communicator> split(int color, int) override {
    finished("split").wait();
    return color < 0 ? nullptr : make_single_communicator();
  }

  void abort(const std::string& reason) override {
    const std::lock_guard lock(mutex_);
    if (!abort_reason_) abort_reason_ = reason;
  }

 private:
  struct Aborted final : Work::State {
    explicit Aborted(std::string message_text) : message(std::move(message_text)) {}
    bool is_done() const override { return true; }
    void wait() override { throw Error(ErrorCode::kAborted, message); }
    std::string message;
  };

  Work finished(const char* operation) {
    const std::lock_guard lock(mutex_);
    if (!abort_reason_) return Work();
    return Work(
        std::make_shared<Aborted>(fmt::format("rank 0 of 1: {}: aborted: {}", operation, *abort_reason_)));
  }
  Work copied(const char* operation, const Buffer& input, const Buffer& output) {
    if (input.data != output.data && input.count > 0) std::memcpy(output.data, input.data, input.bytes());
    return finished(operation);
  }

  std::mutex mutex_;
  std::optional<std::string> abort_reason_;
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace deepscale
