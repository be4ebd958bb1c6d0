// The inside of libdeepscale_gloo.so; see module.h.
#include <gloo/transport/tcp/device.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "comm/gloo/module.h"

namespace deepscale::gloo {

namespace {

namespace transport = ::gloo::transport;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kForever(kLongestMilliseconds);
constexpr std::uint64_t kCanarySlot = ~std::uint64_t{0};

thread_local std::string last_text;

const char* keep(std::string text) {
  last_text = std::move(text);
  return last_text.c_str();
}

// Gloo's texts begin with "[file:line] ".
std::string without_place(const std::string& text) {
  const auto end = text.find("] ");
  return text.starts_with('[') && end != std::string::npos ? text.substr(end + 2) : text;
}

// Gloo writes to sockets that the peer may have closed and leaves the signal to the program, which it ends.
// Threads that Gloo starts meanwhile have all signals blocked for ever.
class NoSignals {
 public:
  NoSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
  }
  ~NoSignals() {
    if (!was_pending_) {
      sigset_t pipe;
      sigemptyset(&pipe);
      sigaddset(&pipe, SIGPIPE);
      const timespec now{};
      sigtimedwait(&pipe, nullptr, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t before_{};
  bool was_pending_ = false;
};

}  // namespace

struct Transfer {
  Mesh& mesh;
  const TransferRequest request;
  const Clock::time_point deadline;
  std::unique_ptr<transport::UnboundBuffer> buffer;  // null: could not be started
  std::string failure;                               // why, unless it was aborted
  bool is_late = false;

  bool has_deadline() const { return request.timeout_milliseconds < kLongestMilliseconds; }

  void post(transport::Context& context) {
    auto created = context.createUnboundBuffer(request.data, request.bytes);
    if (request.sends) {
      created->send(request.peer, request.slot, 0, request.bytes);
    } else {
      created->recv(request.peer, request.slot, 0, request.bytes);
    }
    buffer = std::move(created);
  }
  // False: wake() came first, even if the message is through.
  bool wait(milliseconds limit) {
    return request.sends ? buffer->waitSend(nullptr, limit) : buffer->waitRecv(nullptr, limit);
  }
  void wake() {
    if (buffer == nullptr) return;
    if (request.sends) {
      buffer->abortWaitSend();
    } else {
      buffer->abortWaitRecv();
    }
  }
};

// The connection to one peer. A context of its own, since Gloo closes all connections of a context when one
// wait runs into its timeout.
struct Link {
  std::shared_ptr<transport::Context> context;
  // Of a message that never comes. When a connection is lost, Gloo says so to those who wait for a message
  // that has not begun, and forgets those that were half through.
  std::unique_ptr<transport::UnboundBuffer> canary;
  std::string why_lost;  // empty: it is not
};

struct Mesh {
  explicit Mesh(const MeshRequest& request);
  ~Mesh();
  template <typename Action>
  void for_each_peer(Action action) {
    for (int peer = 0; peer < size; ++peer) {
      if (peer != rank) action(links[peer], peer);
    }
  }
  transport::Pair& pair_with(int peer) { return *links[peer].context->getPair(peer); }
  void watch();
  void look_after_transfers();

  const int rank;
  const int size;
  std::shared_ptr<transport::Device> device;
  std::vector<Link> links;
  std::mutex mutex;  // of everything below, and of the canaries
  std::condition_variable changed;
  bool is_aborted = false;
  bool is_ending = false;
  std::set<Transfer*> transfers;
  int with_deadline = 0;
  std::thread watcher;
};

Mesh::Mesh(const MeshRequest& request) : rank(request.rank), size(request.size), links(request.size) {
  constexpr int kPatience = 5;  // by which Gloo multiplies the timeout
  const milliseconds timeout(std::max<std::int64_t>(request.connect_timeout_milliseconds / kPatience, 1));
  device = transport::tcp::CreateDevice(transport::tcp::attr(request.listen_address));
  for_each_peer([&](Link& link, int peer) {
    link.context = device->createContext(rank, size);
    link.context->setTimeout(timeout);
    link.context->createPair(peer);
  });
  watcher = std::thread([this] { watch(); });
}

Mesh::~Mesh() {
  {
    const std::lock_guard lock(mutex);
    is_ending = true;
    changed.notify_one();
  }
  watcher.join();
}

void Mesh::watch() {
  constexpr auto kPeriod = milliseconds(20);
  std::unique_lock lock(mutex);
  while (!is_ending) {
    if (with_deadline == 0) {
      changed.wait(lock);
    } else {
      changed.wait_for(lock, kPeriod);
      look_after_transfers();
    }
  }
}

void Mesh::look_after_transfers() {
  for_each_peer([](Link& link, int) {
    if (link.canary == nullptr || !link.why_lost.empty()) return;
    try {
      link.canary->abortWaitRecv();
      link.canary->waitRecv(nullptr, kForever);
    } catch (const std::exception& error) {
      link.why_lost = without_place(error.what());
    }
  });
  const auto now = Clock::now();
  for (Transfer* transfer : transfers) {
    transfer->is_late = now >= transfer->deadline;
    if (transfer->is_late || !links[transfer->request.peer].why_lost.empty()) transfer->wake();
  }
}

namespace {

const char* create(const MeshRequest* request, Mesh** mesh) try {
  const NoSignals no_signals;
  *mesh = new Mesh(*request);
  return nullptr;
} catch (const std::exception& error) {
  return keep(without_place(error.what()));
}

void destroy(Mesh* mesh) {
  delete mesh;
}

std::size_t address(Mesh* mesh, int peer, char* bytes) {
  const auto own = mesh->pair_with(peer).address().bytes();
  std::memcpy(bytes, own.data(), own.size());
  return own.size();
}

const char* connect(Mesh* mesh, int peer, const char* address, std::size_t bytes) try {
  const NoSignals no_signals;
  mesh->pair_with(peer).connect(std::vector<char>(address, address + bytes));
  auto canary = mesh->links[peer].context->createUnboundBuffer(nullptr, 0);
  canary->recv(peer, kCanarySlot, 0, 0);
  const std::lock_guard lock(mesh->mutex);
  mesh->links[peer].canary = std::move(canary);
  return nullptr;
} catch (const std::exception& error) {
  return keep(without_place(error.what()));
}

Transfer* start(Mesh* mesh, const TransferRequest* request) {
  const auto deadline = Clock::now() + milliseconds(request->timeout_milliseconds);
  const auto transfer = new Transfer{*mesh, *request, deadline, nullptr, "", false};
  const NoSignals no_signals;
  const std::lock_guard lock(mesh->mutex);
  mesh->transfers.insert(transfer);
  if (transfer->has_deadline() && ++mesh->with_deadline == 1) mesh->changed.notify_one();
  if (mesh->is_aborted) return transfer;
  try {
    transfer->post(*mesh->links[request->peer].context);
  } catch (const std::exception& error) {
    transfer->failure = without_place(error.what());
  }
  return transfer;
}

// After wake(). A message that is through counts, also when its connection was lost behind it.
Outcome outcome_of_woken(Transfer& transfer, const char** why) {
  {
    const std::lock_guard lock(transfer.mesh.mutex);
    if (transfer.mesh.is_aborted) return Outcome::kAborted;
    if (transfer.is_late) return Outcome::kTimeout;
    *why = keep(transfer.mesh.links[transfer.request.peer].why_lost);
  }
  try {
    return transfer.wait(milliseconds(0)) ? Outcome::kDone : Outcome::kConnectionLost;
  } catch (const std::exception&) {
    return Outcome::kConnectionLost;
  }
}

Outcome wait(Transfer* transfer, const char** why) {
  *why = "";
  try {
    if (transfer->buffer != nullptr && transfer->wait(kForever)) return Outcome::kDone;
    if (transfer->buffer != nullptr) return outcome_of_woken(*transfer, why);
  } catch (const std::exception& error) {
    transfer->failure = without_place(error.what());
  }
  const std::lock_guard lock(transfer->mesh.mutex);
  *why = keep(transfer->failure);
  return transfer->mesh.is_aborted ? Outcome::kAborted : Outcome::kConnectionLost;
}

void release(Transfer* transfer) {
  {
    const std::lock_guard lock(transfer->mesh.mutex);
    transfer->mesh.transfers.erase(transfer);
    if (transfer->has_deadline()) --transfer->mesh.with_deadline;
  }
  delete transfer;
}

void abort(Mesh* mesh) {
  const std::lock_guard lock(mesh->mutex);
  if (mesh->is_aborted) return;
  mesh->is_aborted = true;
  mesh->for_each_peer([&](Link&, int peer) { mesh->pair_with(peer).close(); });
  for (Transfer* transfer : mesh->transfers) transfer->wake();
}

constexpr Functions kFunctions{create, destroy, address, connect, start, wait, release, abort};

}  // namespace

extern "C" __attribute__((visibility("default"))) const Functions* deepscale_gloo_functions() {
  return &kFunctions;
}

}  // namespace deepscale::gloo
