#include "comm/tcp/progress_thread.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "comm/tcp/mesh.h"

namespace deepscale::tcp {

namespace {

namespace asio = boost::asio;

constexpr auto kDrainTime = std::chrono::milliseconds(500);
constexpr auto kLongestTimeout = std::chrono::hours(24 * 365);  // now + timeout must not overflow

}  // namespace

struct ProgressThread::Loop {
  asio::io_context context{1};
  // From the end of the rendezvous on, which runs the context until nothing is left on it.
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> keep_running;
  asio::steady_timer timer{context};
};

ProgressThread::ProgressThread(int rank, int world_size, Store* store, const CommunicatorOptions& options)
    : rank_(rank),
      size_(world_size),
      timeout_(std::min<Clock::duration>(options.timeout, kLongestTimeout)),
      loop_(std::make_unique<Loop>()),
      channels_(world_size) {
  if (world_size > 1) {
    const MeshOptions mesh{
        .rank = rank,
        .world_size = world_size,
        .name = options.name,
        .listen_address = options.listen_address.empty() ? "127.0.0.1" : options.listen_address,
        .deadline = Deadline::after(timeout_),
        .logger = options.logger};
    auto connections = connect_mesh(loop_->context, *store, mesh);
    for (int peer = 0; peer < world_size; ++peer) {
      if (peer != rank)
        channels_[peer] = std::make_unique<Channel>(peer, std::move(connections[peer]), *this);
    }
  }
  loop_->keep_running.emplace(loop_->context.get_executor());
  thread_ = std::thread([this] { run(); });
}

ProgressThread::~ProgressThread() {
  asio::post(loop_->context, [this] { end(); });
  thread_.join();
}

Work ProgressThread::submit(const MessageHeader& header, Start start) {
  auto operation = std::make_unique<Operation>(header, Deadline::after(timeout_));
  Work work(operation->state());
  asio::post(loop_->context, [this, operation = std::move(operation), start = std::move(start)]() mutable {
    begin(std::move(operation), start);
  });
  return work;
}

void ProgressThread::abort(const std::string& reason) {
  asio::post(loop_->context, [this, reason] { break_with(ErrorCode::kAborted, "aborted: " + reason); });
}

void ProgressThread::run() {
  for_each_channel([](Channel& channel) { channel.continue_receiving(); });
  for (;;) {
    try {
      loop_->context.run();
      return;
    } catch (const std::exception& error) {
      break_with(ErrorCode::kInternal, error.what());
    }
  }
}

void ProgressThread::begin(std::unique_ptr<Operation> operation, const Start& start) {
  Operation& begun = *in_flight_.emplace_back(std::move(operation));
  if (state_ == State::kStopping) return;  // fails with the others
  if (state_ != State::kRunning) return fail_all();
  watch_deadline();
  start(begun);
  finish_part(begun);
}

void ProgressThread::finish_part(Operation& operation) {
  if (!operation.finish_part()) return;
  operation.state()->finish(std::nullopt);
  // Callers up the stack still use its transfers.
  asio::post(loop_->context, [this] {
    while (!in_flight_.empty() && in_flight_.front()->has_finished()) in_flight_.pop_front();
  });
}

// One timer is enough: deadlines pass in the order of the starts.
void ProgressThread::watch_deadline() {
  if (deadline_is_watched_ || in_flight_.empty()) return;
  deadline_is_watched_ = true;
  loop_->timer.expires_at(in_flight_.front()->deadline().time());
  loop_->timer.async_wait([this](const boost::system::error_code& failure) {
    deadline_is_watched_ = false;
    if (!failure && state_ == State::kRunning) on_deadline();
  });
}

void ProgressThread::on_deadline() {
  const auto late = std::find_if(in_flight_.begin(), in_flight_.end(),
                                 [](const auto& operation) { return !operation->has_finished(); });
  if (late == in_flight_.end()) return;
  if (!(*late)->deadline().has_passed()) return watch_deadline();
  std::vector<int> peers;
  for_each_channel([&](const Channel& channel) {
    if (channel.is_needed_by(**late)) peers.push_back(channel.peer());
  });
  const double seconds = std::chrono::duration<double>(timeout_).count();
  break_with(ErrorCode::kTimeout, fmt::format("{} did not finish within {:g} s; it waits for rank {}",
                                              describe((*late)->header()), seconds, fmt::join(peers, ", ")));
}

void ProgressThread::peer_lost(int peer, const Operation& operation, const std::string& why) {
  break_with(ErrorCode::kPeerLost,
             fmt::format("lost rank {} during {}: {}; what ended it stands in its own output", peer,
                         describe(operation.header()), why));
}

void ProgressThread::ranks_disagree(int peer, const Operation& operation, const MessageHeader& theirs) {
  if (theirs.magic != kMessageMagic) {
    return break_with(ErrorCode::kProtocol,
                      fmt::format("rank {} sent bytes that are no message, where {} was expected", peer,
                                  describe(operation.header())));
  }
  break_with(ErrorCode::kInvalidArgument, describe_disagreement(rank_, operation.header(), peer, theirs));
}

void ProgressThread::break_with(ErrorCode code, const std::string& why) {
  if (state_ != State::kRunning) return;
  state_ = State::kStopping;
  cause_.emplace(code, why);
  loop_->timer.cancel();
  for_each_channel([](Channel& channel) { channel.stop(); });
  asio::post(loop_->context, [this] { io_returned(); });
}

void ProgressThread::io_returned() {
  bool all_quiet = true;
  for_each_channel([&](const Channel& channel) { all_quiet = all_quiet && channel.is_quiet(); });
  if (!all_quiet) return;
  if (state_ == State::kStopping) return drain();
  if (state_ == State::kDraining) close();
}

void ProgressThread::drain() {
  state_ = State::kDraining;
  loop_->timer.expires_after(kDrainTime);
  loop_->timer.async_wait([this](const boost::system::error_code& failure) {
    if (!failure) close();
  });
  for_each_channel([this](Channel& channel) { channel.drain(cause_->what()); });
  fail_all();
  io_returned();
}

void ProgressThread::fail_all() {
  for (const auto& operation : in_flight_) {
    if (operation->has_finished()) continue;
    operation->state()->finish(Error(
        cause_->code(),
        fmt::format("rank {} of {}: {}: {}", rank_, size_, describe(operation->header()), cause_->what())));
  }
  in_flight_.clear();
}

void ProgressThread::close() {
  state_ = State::kClosed;
  loop_->timer.cancel();
  for_each_channel([](Channel& channel) { channel.close(); });
  if (ending_) loop_->keep_running.reset();
}

void ProgressThread::end() {
  ending_ = true;
  const bool idle = std::all_of(in_flight_.begin(), in_flight_.end(),
                                [](const auto& operation) { return operation->has_finished(); });
  if (state_ == State::kClosed || (state_ == State::kRunning && idle)) return close();
  break_with(ErrorCode::kAborted, "the communicator was destroyed with operations in flight");
}

}  // namespace deepscale::tcp
