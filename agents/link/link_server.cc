#include "agents/link/link_server.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "agents/link/link_address.h"
#include "comm/base/error.h"
#include "comm/store/socket.h"

namespace deepscale {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr auto kHelloLimit = std::chrono::seconds(5);
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);
constexpr std::size_t kStrangersPerRank = 4;
constexpr std::size_t kStrangersAtLeast = 64;
constexpr int kConnectionsPerRank = 16;

tcp::acceptor listen_on_loopback(asio::io_context& io) {
  try {
    const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), 0);
    tcp::acceptor acceptor(io, endpoint.protocol());
    keep_from_children(acceptor.native_handle());
    claim_address(acceptor.native_handle());
    acceptor.bind(endpoint);
    acceptor.listen(tcp::acceptor::max_listen_connections);
    acceptor.non_blocking(true);
    return acceptor;
  } catch (const boost::system::system_error& error) {
    throw Error(ErrorCode::kSystem, fmt::format("the agent of this node cannot listen for its ranks on "
                                                "127.0.0.1: {}; is the loopback interface up?",
                                                error.code().message()));
  }
}

}  // namespace

class LinkServer::State : public std::enable_shared_from_this<LinkServer::State> {
 public:
  State(asio::io_context& io, LinkServerOptions options);

  void accept_next();
  void close();
  std::string address_of(std::size_t index) const;
  const LinkStatus& status(std::size_t index) const { return ranks_.at(index).status; }
  bool request_stop(std::size_t index, LinkStop reason);
  bool send_to(std::size_t index, const LinkMessage& message);

 private:
  class Session;
  using SessionPointer = std::shared_ptr<Session>;

  struct Rank {
    std::string token;
    LinkStatus status;
    std::optional<LinkStop> stop;
  };

  void on_accept(error_code failure, tcp::socket socket);
  // Why not, or an empty text.
  std::string admit(Session& session, const LinkMessage& hello);
  void let_in(Session& session, const LinkMessage& hello);
  void hear(Session& session, const LinkMessage& message);
  void take_heartbeat(std::size_t index, std::int64_t steps);
  void tell(std::size_t index);
  void end(Session& session, const std::string& why);
  bool is_closed() const { return !acceptor_.is_open(); }

  const LinkServerOptions options_;
  asio::io_context& io_;
  tcp::acceptor acceptor_;
  asio::steady_timer accept_retry_;
  const int port_;
  std::vector<Rank> ranks_;
  std::vector<SessionPointer> sessions_;  // of ranks
  std::deque<SessionPointer> strangers_;  // who has not said hello yet, oldest first
  std::array<char, 4096> input_;          // shared: what is left of a message is kept by its parser
};

// One connection. Its owner ends it; handlers that come later find it closed.
class LinkServer::State::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(State& owner, tcp::socket socket);

  void start();
  // False when the peer does not take it: then it is no use any more.
  bool send(const LinkMessage& message);
  void close();

  std::optional<std::size_t> index;  // of the rank that it speaks for

 private:
  void read_when_ready();
  void on_readable(error_code failure);

  State& owner_;
  tcp::socket socket_;
  asio::steady_timer hello_limit_;
  LinkParser parser_;
  bool is_closed_ = false;
};

LinkServer::State::Session::Session(State& owner, tcp::socket socket)
    : owner_(owner), socket_(std::move(socket)), hello_limit_(owner.io_) {
  error_code ignored;
  keep_from_children(socket_.native_handle());
  socket_.non_blocking(true, ignored);
  socket_.set_option(tcp::no_delay(true), ignored);
}

void LinkServer::State::Session::start() {
  hello_limit_.expires_after(kHelloLimit);
  hello_limit_.async_wait([self = shared_from_this()](error_code cancelled) {
    if (!cancelled && !self->is_closed_ && !self->index) self->owner_.end(*self, "it did not say hello");
  });
  read_when_ready();
}

void LinkServer::State::Session::read_when_ready() {
  socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code failure) {
    if (!self->is_closed_) self->on_readable(failure);
  });
}

void LinkServer::State::Session::on_readable(error_code failure) {
  std::size_t size = 0;
  if (!failure) size = socket_.read_some(asio::buffer(owner_.input_), failure);
  if (failure == asio::error::would_block) return read_when_ready();
  if (failure) return owner_.end(*this, failure.message());
  std::string_view input(owner_.input_.data(), size);
  try {
    while (const auto message = parser_.next(input)) {
      owner_.hear(*this, *message);
      if (is_closed_) return;
      if (index) hello_limit_.cancel();
    }
  } catch (const Error& error) {
    return owner_.end(*this, error.what());
  }
  read_when_ready();
}

bool LinkServer::State::Session::send(const LinkMessage& message) {
  const std::string bytes = encode_link_message(message);
  error_code failure;
  // A few bytes now and then: they fit, unless the peer takes nothing at all.
  return !is_closed_ && socket_.write_some(asio::buffer(bytes), failure) == bytes.size();
}

void LinkServer::State::Session::close() {
  is_closed_ = true;
  hello_limit_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

LinkServer::State::State(asio::io_context& io, LinkServerOptions options)
    : options_(std::move(options)),
      io_(io),
      acceptor_(listen_on_loopback(io)),
      accept_retry_(io),
      port_(acceptor_.local_endpoint().port()),
      ranks_(options_.rank_count) {
  for (Rank& rank : ranks_) rank.token = new_link_token();
}

void LinkServer::State::accept_next() {
  acceptor_.async_accept([self = shared_from_this()](error_code failure, tcp::socket socket) {
    if (!self->is_closed()) self->on_accept(failure, std::move(socket));
  });
}

void LinkServer::State::on_accept(error_code failure, tcp::socket socket) {
  if (failure) {  // out of descriptors, most likely
    options_.logger.warning("the agent cannot accept a rank's link: {}", failure.message());
    accept_retry_.expires_after(kAcceptRetry);
    accept_retry_.async_wait([self = shared_from_this()](error_code cancelled) {
      if (!cancelled && !self->is_closed()) self->accept_next();
    });
    return;
  }
  if (strangers_.size() >= kStrangersAtLeast + kStrangersPerRank * ranks_.size())
    end(*strangers_.front(), "too many connect without saying hello");
  strangers_.push_back(std::make_shared<Session>(*this, std::move(socket)));
  strangers_.back()->start();
  accept_next();
}

std::string LinkServer::State::admit(Session& session, const LinkMessage& hello) {
  if (hello.kind != LinkKind::kHello) return "it did not say hello first";
  const auto found = std::find_if(ranks_.begin(), ranks_.end(),
                                  [&](const Rank& rank) { return is_same_secret(rank.token, hello.text); });
  if (found == ranks_.end()) return "its token is not that of a rank of this job";
  if (hello.number != options_.generation) {
    return fmt::format("it is of generation {}, and the job is at generation {}", hello.number,
                       options_.generation);
  }
  if (found->status.connections >= kConnectionsPerRank)
    return fmt::format("the rank has {} links already", kConnectionsPerRank);
  session.index = static_cast<std::size_t>(found - ranks_.begin());
  return "";
}

void LinkServer::State::let_in(Session& session, const LinkMessage& hello) {
  const std::string refusal = admit(session, hello);
  if (!refusal.empty()) {
    session.send({LinkKind::kRefused, 0, refusal});
    return end(session, refusal);
  }
  const SessionPointer keep = session.shared_from_this();
  std::erase(strangers_, keep);
  sessions_.push_back(keep);
  Rank& rank = ranks_[*session.index];
  ++rank.status.connections;
  rank.status.heard_at = Clock::now();
  session.send({LinkKind::kWelcome, 0, {}});
  if (rank.stop) session.send({LinkKind::kStop, static_cast<std::int64_t>(*rank.stop), {}});
  if (!std::exchange(rank.status.has_joined, true)) tell(*session.index);
}

void LinkServer::State::hear(Session& session, const LinkMessage& message) {
  if (!session.index) return let_in(session, message);
  LinkStatus& status = ranks_[*session.index].status;
  status.heard_at = Clock::now();
  switch (message.kind) {
    case LinkKind::kHeartbeat:
      take_heartbeat(*session.index, message.number);
      break;
    case LinkKind::kAlive:
      break;
    case LinkKind::kRest:
      status.is_resting = true;
      break;
    case LinkKind::kWatchesStop:
      status.watches_stop = true;
      break;
    case LinkKind::kFailure:
      status.failure = {static_cast<RankFailure>(message.number), message.text};
      tell(*session.index);
      if (!session.send({LinkKind::kFailureReceived, 0, {}})) end(session, "it takes no answer");
      break;
    default:
      end(session, "it says what only an agent says");
  }
}

void LinkServer::State::take_heartbeat(std::size_t index, std::int64_t steps) {
  LinkStatus& status = ranks_[index].status;
  const bool is_first = !status.steps;
  if (status.steps != steps || status.is_resting) status.progress_at = status.heard_at;
  status.steps = steps;
  status.is_resting = false;
  status.failure.reset();
  if (is_first) tell(index);
}

void LinkServer::State::tell(std::size_t index) {
  if (options_.on_news) options_.on_news(index);
}

void LinkServer::State::end(Session& session, const std::string& why) {
  const SessionPointer keep = session.shared_from_this();
  if (session.index) {
    --ranks_[*session.index].status.connections;
    std::erase(sessions_, keep);
  } else {
    options_.logger.warning("the agent refused a connection: {}", why);
    std::erase(strangers_, keep);
  }
  session.close();
}

std::string LinkServer::State::address_of(std::size_t index) const {
  return LinkAddress{"127.0.0.1", port_, ranks_.at(index).token}.text();
}

bool LinkServer::State::request_stop(std::size_t index, LinkStop reason) {
  ranks_.at(index).stop = reason;
  return send_to(index, {LinkKind::kStop, static_cast<std::int64_t>(reason), {}});
}

bool LinkServer::State::send_to(std::size_t index, const LinkMessage& message) {
  bool was_sent = false;
  for (const SessionPointer& session : sessions_) {
    if (session->index == index) was_sent = session->send(message) || was_sent;
  }
  return was_sent;
}

void LinkServer::State::close() {
  error_code ignored;
  acceptor_.close(ignored);
  accept_retry_.cancel();
  for (const SessionPointer& session : sessions_) session->close();
  for (const SessionPointer& session : strangers_) session->close();
  sessions_.clear();
  strangers_.clear();
}

LinkServer::LinkServer(asio::io_context& io, LinkServerOptions options)
    : state_(std::make_shared<State>(io, std::move(options))) {
  state_->accept_next();
}

LinkServer::~LinkServer() {
  state_->close();
}

std::string LinkServer::address_of(std::size_t index) const {
  return state_->address_of(index);
}

const LinkStatus& LinkServer::status(std::size_t index) const {
  return state_->status(index);
}

bool LinkServer::request_stop(std::size_t index, LinkStop reason) {
  return state_->request_stop(index, reason);
}

bool LinkServer::ask_for_stacks(std::size_t index) {
  return state_->send_to(index, {LinkKind::kDumpStacks, 0, {}});
}

}  // namespace deepscale
