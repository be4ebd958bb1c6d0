#include "comm/store/store_server.h"

#include <fmt/core.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <future>
#include <limits>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>

#include "comm/base/error.h"
#include "comm/store/query_service.h"
#include "comm/store/socket.h"
#include "comm/store/wire.h"

namespace deepscale {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::size_t kReadBytes = 64 * 1024;  // taken from one connection before the others get their turn
constexpr std::size_t kReplyBatchBytes = 64 * 1024;  // replies that are collected before they are sent
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);

std::string describe(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

// A compare_set carries two values; a list of keys is to be possible however small a value may be.
std::size_t max_query_bytes(const StoreServerOptions& options) {
  return 2 * options.max_value_bytes + 16 * 1024 * 1024;
}

tcp::acceptor listen(asio::io_context& context, const StoreServerOptions& options) {
  error_code failure;
  const auto address = asio::ip::make_address(options.address, failure);
  if (failure) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("'{}' is not a numeric address for the store to listen on", options.address));
  }
  if (options.port < 0 || options.port > std::numeric_limits<asio::ip::port_type>::max()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the store cannot listen on port {}: ports are from 1 to 65535, and 0 lets the "
                            "system choose",
                            options.port));
  }
  const tcp::endpoint endpoint(address, static_cast<asio::ip::port_type>(options.port));
  try {
    tcp::acceptor acceptor(context, endpoint.protocol());
    keep_from_children(acceptor.native_handle());
    claim_address(acceptor.native_handle());
    if (address.is_v6()) acceptor.set_option(asio::ip::v6_only(!address.is_unspecified()));
    acceptor.bind(endpoint);
    acceptor.listen(tcp::acceptor::max_listen_connections);
    acceptor.non_blocking(true);
    return acceptor;
  } catch (const boost::system::system_error& error) {
    throw Error(ErrorCode::kSystem,
                fmt::format("the store cannot listen on {}: {}; if another program has the port, choose "
                            "another one or let the system choose (port 0)",
                            describe(endpoint), error.code().message()));
  }
}

}  // namespace

// Accepts connections, and owns them and what they talk about.
class StoreServer::State : public std::enable_shared_from_this<StoreServer::State> {
 public:
  State(asio::io_context& context, StoreServerOptions options);

  void accept_next();
  void close();
  int port() const { return port_; }
  std::size_t connection_count() const { return sessions_.size(); }
  void call_when_idle(std::function<void()> callback);

 private:
  class Session;

  void on_accept(error_code failure, tcp::socket socket);
  void answer(Session& session, StoreQuery query);
  void end(Session& session, LogLevel level, const std::string& why);

  StoreServerOptions options_;
  StoreQueryService service_;
  tcp::acceptor acceptor_;
  asio::steady_timer accept_retry_;
  int port_ = 0;
  std::unordered_map<KeyValueTable::Waiter, std::shared_ptr<Session>> sessions_;
  KeyValueTable::Waiter next_client_ = 1;
  std::vector<std::function<void()>> when_idle_;
  std::array<char, kReadBytes> read_buffer_;  // shared, so that an idle connection holds none
};

// One connection. While its client does not take its replies, no further query of it is read, so what it can
// make us hold is bounded. Its owner closes it before it goes away itself; handlers that come later find it
// closed.
class StoreServer::State::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(State& owner, tcp::socket socket, KeyValueTable::Waiter id);

  void read_when_ready();
  void send(std::string_view bytes);
  void close();
  std::string peer() const;

  StoreQueryService::Client client;
  std::string outgoing;  // replies that wait to be sent; flush() sends

 private:
  void on_readable(error_code failure);
  void on_writable(error_code failure);
  void serve(std::string_view input);
  bool flush();

  State& owner_;
  tcp::socket socket_;
  StoreQueryParser parser_;
  std::size_t sent_ = 0;  // bytes of `outgoing`
  std::string unserved_;  // input that came after a query whose reply is not sent yet
  bool reading_ = false;
  bool writing_ = false;
  bool closed_ = false;
};

StoreServer::State::Session::Session(State& owner, tcp::socket socket, KeyValueTable::Waiter id)
    : client{.id = id},
      owner_(owner),
      socket_(std::move(socket)),
      parser_({.max_key_bytes = owner.options_.max_key_bytes,
               .max_value_bytes = owner.options_.max_value_bytes,
               .max_query_bytes = max_query_bytes(owner.options_)}) {
  error_code ignored;  // an option that the system refuses costs speed, not correctness; a dead connection
                       // shows when read
  keep_from_children(socket_.native_handle());
  socket_.non_blocking(true, ignored);
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.set_option(asio::socket_base::keep_alive(true), ignored);
}

void StoreServer::State::Session::read_when_ready() {
  if (reading_ || closed_) return;
  reading_ = true;
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code failure) {
    self->reading_ = false;
    if (!self->closed_) self->on_readable(failure);
  });
}

void StoreServer::State::Session::on_readable(error_code failure) {
  std::size_t size = 0;
  if (!failure) size = socket_.read_some(asio::buffer(owner_.read_buffer_), failure);
  if (failure == asio::error::would_block) return read_when_ready();
  if (failure) return owner_.end(*this, LogLevel::kDebug, failure.message());
  serve({owner_.read_buffer_.data(), size});
}

void StoreServer::State::Session::serve(std::string_view input) {
  try {
    while (auto query = parser_.next(input)) {
      owner_.answer(*this, std::move(*query));
      if (outgoing.size() >= kReplyBatchBytes && !flush()) break;
    }
  } catch (const std::exception& error) {
    return owner_.end(*this, LogLevel::kWarning, error.what());
  }
  if (flush()) {
    read_when_ready();
  } else {
    unserved_.assign(input);
  }
}

void StoreServer::State::Session::send(std::string_view bytes) {
  outgoing.append(bytes);
  flush();
}

// True when everything is sent; else the rest follows by itself, or the connection has ended.
bool StoreServer::State::Session::flush() {
  while (!closed_ && !writing_ && sent_ < outgoing.size()) {
    error_code failure;
    sent_ += socket_.write_some(asio::buffer(outgoing.data() + sent_, outgoing.size() - sent_), failure);
    if (failure == asio::error::would_block) {
      writing_ = true;
      socket_.async_wait(tcp::socket::wait_write, [self = shared_from_this()](error_code error) {
        self->writing_ = false;
        if (!self->closed_) self->on_writable(error);
      });
    } else if (failure) {
      owner_.end(*this, LogLevel::kDebug, failure.message());
    }
  }
  if (closed_ || sent_ < outgoing.size()) return false;
  sent_ = 0;
  outgoing.clear();
  if (outgoing.capacity() > kReplyBatchBytes) outgoing.shrink_to_fit();
  return true;
}

void StoreServer::State::Session::on_writable(error_code failure) {
  if (failure) return owner_.end(*this, LogLevel::kDebug, failure.message());
  if (flush()) serve(std::exchange(unserved_, {}));
}

void StoreServer::State::Session::close() {
  closed_ = true;
  error_code ignored;
  socket_.close(ignored);
}

std::string StoreServer::State::Session::peer() const {
  error_code failure;
  const auto endpoint = socket_.remote_endpoint(failure);
  return failure ? "a client" : describe(endpoint);
}

StoreServer::State::State(asio::io_context& context, StoreServerOptions options)
    : options_(std::move(options)),
      service_({.max_value_bytes = options_.max_value_bytes}, max_query_bytes(options_)),
      acceptor_(listen(context, options_)),
      accept_retry_(context),
      port_(acceptor_.local_endpoint().port()) {}

void StoreServer::State::accept_next() {
  acceptor_.async_accept([self = shared_from_this()](error_code failure, tcp::socket socket) {
    if (self->acceptor_.is_open()) self->on_accept(failure, std::move(socket));
  });
}

void StoreServer::State::on_accept(error_code failure, tcp::socket socket) {
  if (!failure) {
    auto session = std::make_shared<Session>(*this, std::move(socket), next_client_++);
    sessions_.emplace(session->client.id, session);
    session->read_when_ready();
    return accept_next();
  }
  // Out of descriptors or memory, most likely: those who wait to be accepted stay in the system's queue for
  // now.
  options_.logger.warning("the store on port {} cannot accept a connection: {}; it has {} now", port_,
                          failure.message(), sessions_.size());
  accept_retry_.expires_after(kAcceptRetry);
  accept_retry_.async_wait([self = shared_from_this()](error_code) {
    if (self->acceptor_.is_open()) self->accept_next();
  });
}

void StoreServer::State::answer(Session& session, StoreQuery query) {
  service_.answer(session.client, std::move(query), session.outgoing);
  for (const auto waiter : service_.take_released()) {
    sessions_.at(waiter)->send(std::string_view(&kStoreStopWaiting, 1));
  }
}

void StoreServer::State::end(Session& session, LogLevel level, const std::string& why) {
  if (options_.logger.enabled(level)) {
    const std::string line = fmt::format("the store ended the connection of {}: {}", session.peer(), why);
    level == LogLevel::kDebug ? options_.logger.debug("{}", line) : options_.logger.warning("{}", line);
  }
  service_.forget(session.client);
  const auto node = sessions_.extract(session.client.id);  // keeps the session until it has closed
  session.close();
  if (!sessions_.empty()) return;
  for (const auto& callback : std::exchange(when_idle_, {})) callback();
}

void StoreServer::State::call_when_idle(std::function<void()> callback) {
  if (sessions_.empty()) return callback();
  when_idle_.push_back(std::move(callback));
}

void StoreServer::State::close() {
  error_code ignored;
  acceptor_.close(ignored);
  accept_retry_.cancel();
  for (const auto& [id, session] : sessions_) session->close();
  sessions_.clear();
}

StoreServer::StoreServer(asio::io_context& context, StoreServerOptions options)
    : state_(std::make_shared<State>(context, std::move(options))) {
  state_->accept_next();
}

StoreServer::~StoreServer() {
  state_->close();
}

int StoreServer::port() const {
  return state_->port();
}

std::size_t StoreServer::connection_count() const {
  return state_->connection_count();
}

void StoreServer::call_when_idle(std::function<void()> callback) {
  state_->call_when_idle(std::move(callback));
}

struct HostedStoreServer::Running {
  explicit Running(StoreServerOptions options) : context(1), server(context, std::move(options)) {}

  asio::io_context context;
  StoreServer server;
  std::thread thread;
};

HostedStoreServer::HostedStoreServer(StoreServerOptions options)
    : running_(std::make_unique<Running>(std::move(options))) {
  running_->thread = std::thread([context = &running_->context] { context->run(); });
}

HostedStoreServer::~HostedStoreServer() {
  running_->context.stop();
  running_->thread.join();
}

int HostedStoreServer::port() const {
  return running_->server.port();
}

bool HostedStoreServer::wait_until_idle(Deadline deadline) {
  auto idle = std::make_shared<std::promise<void>>();
  auto future = idle->get_future();
  asio::post(running_->context,
             [server = &running_->server, idle] { server->call_when_idle([idle] { idle->set_value(); }); });
  if (deadline.is_never()) future.wait();
  return deadline.is_never() || future.wait_until(deadline.time()) == std::future_status::ready;
}

}  // namespace deepscale
