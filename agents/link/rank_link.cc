#include "agents/link/rank_link.h"

#include <fmt/core.h>

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "agents/link/link_address.h"
#include "agents/link/outbox.h"
#include "agents/link/stack_dump.h"
#include "comm/base/clock.h"
#include "comm/base/error.h"
#include "comm/store/socket.h"

namespace deepscale {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr auto kJoinLimit = std::chrono::seconds(10);
constexpr auto kReportLimit = std::chrono::seconds(2);
constexpr auto kAliveInterval = std::chrono::seconds(1);

Error no_agent(const LinkAddress& address, const error_code& failure) {
  const bool is_late = failure == asio::error::operation_aborted;
  return Error(
      is_late ? ErrorCode::kTimeout : ErrorCode::kPeerLost,
      fmt::format("the agent at {}:{} that DEEPSCALE_AGENT names does not answer: {}; the job that it "
                  "belonged to may have ended; unset DEEPSCALE_AGENT to run without an agent",
                  address.host, address.port, is_late ? "nothing came within 10 s" : failure.message()));
}

}  // namespace

class RankLink::Connection {
 public:
  Connection(const LinkAddress& address, std::int64_t generation);
  ~Connection();

  void say(LinkMessage message);
  bool report(LinkMessage failure);
  bool is_open() const { return is_open_; }
  bool is_stop_requested();

 private:
  void join(const LinkAddress& address, std::int64_t generation);
  template <typename Start>
  error_code run_until_done(Deadline deadline, Start start);
  LinkMessage receive_answer(const LinkAddress& address, Deadline deadline);
  void flush();
  void read_next();
  void take(std::string_view bytes);
  void hear(const LinkMessage& message);
  void tell_alive();
  void end();

  asio::io_context io_{1};
  tcp::socket socket_{io_};
  asio::steady_timer alive_{io_};
  std::thread thread_;

  // Of the thread.
  LinkParser parser_;
  std::array<char, 1024> input_;
  std::string outgoing_;
  bool is_writing_ = false;

  std::atomic<bool> is_open_ = true;
  std::atomic<bool> was_asked_to_stop_ = false;
  std::atomic<bool> watches_stop_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  LinkOutbox outbox_;
  bool flush_is_due_ = false;
  std::uint64_t reports_sent_ = 0;
  std::uint64_t reports_received_ = 0;
};

RankLink::Connection::Connection(const LinkAddress& address, std::int64_t generation) {
  join(address, generation);
  read_next();
  tell_alive();
  thread_ = std::thread([this] { io_.run(); });
}

RankLink::Connection::~Connection() {
  io_.stop();
  thread_.join();
}

// Joining, on the caller's thread.

template <typename Start>
error_code RankLink::Connection::run_until_done(Deadline deadline, Start start) {
  error_code result = asio::error::would_block;
  start([&result](error_code failure, auto&&...) { result = failure; });
  io_.restart();
  io_.run_until(deadline.time());
  if (!io_.stopped()) {
    error_code ignored;
    socket_.close(ignored);
    io_.run();
  }
  io_.restart();
  return result;
}

void RankLink::Connection::join(const LinkAddress& address, std::int64_t generation) {
  const auto deadline = Deadline::after(kJoinLimit);
  error_code failure;
  const tcp::endpoint endpoint(asio::ip::make_address(address.host, failure),
                               static_cast<asio::ip::port_type>(address.port));
  if (!failure) socket_.open(endpoint.protocol(), failure);
  if (failure) throw no_agent(address, failure);
  keep_from_children(socket_.native_handle());
  failure = run_until_done(deadline, [&](auto done) { socket_.async_connect(endpoint, done); });
  if (failure) throw no_agent(address, failure);
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  const std::string hello = encode_link_message({LinkKind::kHello, generation, address.token});
  failure =
      run_until_done(deadline, [&](auto done) { asio::async_write(socket_, asio::buffer(hello), done); });
  if (failure) throw no_agent(address, failure);
  const LinkMessage answer = receive_answer(address, deadline);
  if (answer.kind == LinkKind::kWelcome) return;
  if (answer.kind != LinkKind::kRefused)
    throw Error(ErrorCode::kProtocol, "the agent that DEEPSCALE_AGENT names answers with something else");
  throw Error(ErrorCode::kAborted,
              "the agent of this node refuses this process as a rank of its job: " + answer.text);
}

LinkMessage RankLink::Connection::receive_answer(const LinkAddress& address, Deadline deadline) {
  while (true) {
    std::size_t size = 0;
    const error_code failure = run_until_done(deadline, [&](auto done) {
      socket_.async_read_some(asio::buffer(input_, kLinkHeaderBytes),
                              [&size, done](error_code error, std::size_t bytes) mutable {
                                size = bytes;
                                done(error);
                              });
    });
    if (failure) throw no_agent(address, failure);
    std::string_view bytes(input_.data(), size);
    // At most a header's length at a time: what follows the answer stays for the thread.
    if (auto message = parser_.next(bytes)) return *std::move(message);
  }
}

// From any thread.

void RankLink::Connection::say(LinkMessage message) {
  std::lock_guard lock(mutex_);
  if (!is_open_) return;
  outbox_.add(std::move(message));
  if (std::exchange(flush_is_due_, true)) return;
  asio::post(io_, [this] {
    {
      std::lock_guard flush_lock(mutex_);
      flush_is_due_ = false;
    }
    flush();
  });
}

bool RankLink::Connection::report(LinkMessage failure) {
  say(std::move(failure));
  std::unique_lock lock(mutex_);
  const std::uint64_t number = ++reports_sent_;
  changed_.wait_for(lock, kReportLimit, [&] { return !is_open_ || reports_received_ >= number; });
  return reports_received_ >= number;
}

bool RankLink::Connection::is_stop_requested() {
  if (!watches_stop_.exchange(true)) say({LinkKind::kWatchesStop, 0, {}});
  return was_asked_to_stop_;
}

// On the thread.

void RankLink::Connection::flush() {
  if (is_writing_ || !is_open_) return;
  {
    std::lock_guard lock(mutex_);
    outgoing_ = outbox_.take();
  }
  if (outgoing_.empty()) return;
  is_writing_ = true;
  asio::async_write(socket_, asio::buffer(outgoing_), [this](error_code failure, std::size_t) {
    is_writing_ = false;
    failure ? end() : flush();
  });
}

void RankLink::Connection::read_next() {
  socket_.async_read_some(asio::buffer(input_), [this](error_code failure, std::size_t size) {
    if (failure) return end();
    take({input_.data(), size});
  });
}

void RankLink::Connection::take(std::string_view bytes) {
  try {
    while (const auto message = parser_.next(bytes)) hear(*message);
  } catch (const Error&) {
    return end();
  }
  read_next();
}

void RankLink::Connection::hear(const LinkMessage& message) {
  // After another rank's failure there is nothing to save together, and no time.
  if (message == LinkMessage{LinkKind::kStop, static_cast<std::int64_t>(LinkStop::kRequested), {}})
    was_asked_to_stop_ = true;
  if (message.kind == LinkKind::kDumpStacks) dump_stacks();
  if (message.kind == LinkKind::kFailureReceived) {
    std::lock_guard lock(mutex_);
    ++reports_received_;
    changed_.notify_all();
  }
}

// Tells the agent that the process runs, whatever its main thread does.
void RankLink::Connection::tell_alive() {
  alive_.expires_after(kAliveInterval);
  alive_.async_wait([this](error_code cancelled) {
    if (cancelled || !is_open_) return;
    say({LinkKind::kAlive, 0, {}});
    tell_alive();
  });
}

void RankLink::Connection::end() {
  std::lock_guard lock(mutex_);
  is_open_ = false;
  changed_.notify_all();
  alive_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

// The face.

RankLink::RankLink() = default;
RankLink::~RankLink() = default;
RankLink::RankLink(RankLink&&) noexcept = default;
RankLink& RankLink::operator=(RankLink&&) noexcept = default;
RankLink::RankLink(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}

RankLink RankLink::from_environment(const Environment& environment) {
  const std::string agent = environment.get_or("DEEPSCALE_AGENT", "");
  if (agent.empty()) return {};
  install_stack_dump();
  const auto generation = environment.get_integer("DEEPSCALE_GENERATION").value_or(0);
  return RankLink(std::make_unique<Connection>(LinkAddress::parse(agent), generation));
}

bool RankLink::is_connected() const {
  return connection_ != nullptr && connection_->is_open();
}

void RankLink::heartbeat(std::int64_t steps) {
  if (connection_) connection_->say({LinkKind::kHeartbeat, steps, {}});
}

void RankLink::rest() {
  if (connection_) connection_->say({LinkKind::kRest, 0, {}});
}

bool RankLink::stop_requested() const {
  return connection_ && connection_->is_stop_requested();
}

bool RankLink::report_failure(RankFailure kind, std::string_view message) {
  return connection_ && connection_->report({LinkKind::kFailure, static_cast<std::int64_t>(kind),
                                             std::string(message.substr(0, kMaxLinkTextBytes))});
}

bool RankLink::report_failure(const std::exception& error) {
  return report_failure(rank_failure_of(error), error.what());
}

RankFailure rank_failure_of(const std::exception& error) {
  const std::string_view message = error.what();
  const auto says = [message](const char* words) { return message.find(words) != std::string_view::npos; };
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr || says("out of memory") ||
      says("can't allocate memory"))
    return RankFailure::kOutOfMemory;
  if (says("CUDA error") || says("CUDA driver error") || says("NCCL error")) return RankFailure::kCuda;
  const auto* ours = dynamic_cast<const Error*>(&error);
  if (ours == nullptr) return RankFailure::kException;
  if (ours->code() == ErrorCode::kTimeout) return RankFailure::kCollectiveTimeout;
  const bool is_consequence = ours->code() == ErrorCode::kPeerLost || ours->code() == ErrorCode::kAborted;
  return is_consequence ? RankFailure::kPeerLost : RankFailure::kException;
}

}  // namespace deepscale
