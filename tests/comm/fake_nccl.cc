// NCCL for ranks that are threads of one process. Like the real one: communicators are non-blocking, a call
// runs on its stream when all ranks have come, a send ends when it was received, a lone abort leaves the
// peers waiting.
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "comm/base/half.h"
#include "tests/comm/fake_cuda.h"
#include "tests/comm/fake_gpu.h"

namespace deepscale::fake {

namespace {

enum Result { kSuccess = 0, kInternalError = 3, kInvalidUsage = 5, kInProgress = 7 };
enum DType { kUInt8 = 1, kInt32 = 2, kInt64 = 4, kFloat16 = 6, kFloat32 = 7, kBFloat16 = 9 };
enum Op { kSum = 0, kMax = 2, kMin = 3, kAverage = 4 };
enum class Kind { kAllReduce, kReduceScatter, kAllGather, kBroadcast };

struct Id {
  char bytes[128];
};

struct Call {
  Kind kind;
  const void* input;
  void* output;
  std::size_t count;
  int dtype;
  int op;
  int root;
};

std::size_t size_of(int dtype) {
  if (dtype == kUInt8) return 1;
  if (dtype == kFloat16 || dtype == kBFloat16) return 2;
  return dtype == kInt64 ? 8 : 4;
}

// Ranks of one communicator.
struct World {
  explicit World(int size) : inputs(static_cast<std::size_t>(size)) {}

  std::mutex mutex;
  std::condition_variable changed;
  std::size_t joined = 0;
  // Of the collective that they are in: who has come, and who has read what the others brought.
  std::vector<const void*> inputs;
  std::size_t come = 0;
  std::size_t gone = 0;
  std::uint64_t round = 0;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> mail;  // from, to
};

struct Communicator {
  std::shared_ptr<World> world;
  int rank = 0;
  int device = 0;
  std::atomic<int> polls_to_go{0};
  std::atomic<bool> is_aborted{false};
};
using CommunicatorPointer = std::shared_ptr<Communicator>;

std::mutex worlds_mutex;
std::map<std::string, std::shared_ptr<World>> worlds;
std::array<std::atomic<int>, 8> asynchronous_errors{};
std::atomic<int> live{0};
std::atomic<int> next_id{0};
std::atomic<int> version_override{0};

struct Message {
  CommunicatorPointer comm;
  void* data;
  std::size_t bytes;
  int peer;
  bool is_send;
};
thread_local int group_depth = 0;
thread_local std::vector<std::pair<void*, Message>> group;  // stream, message
struct Collective {
  CommunicatorPointer comm;
  void* stream;
  Call call;
};
thread_local std::vector<Collective> collectives;  // of the group
std::atomic<std::size_t> most_in_a_group{0};

float sum_of(float left, float right) {
  return left + right;
}
// Wraps around, as NCCL's does.
std::int64_t sum_of(std::int64_t left, std::int64_t right) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(left) + static_cast<std::uint64_t>(right));
}

template <typename Stored, typename Wide, typename Load, typename Store>
void reduce_as(const std::vector<const void*>& inputs, std::size_t first, std::vector<std::byte>& result,
               int op, Load load, Store store) {
  for (std::size_t i = 0; i < result.size() / sizeof(Stored); ++i) {
    Wide value{};
    for (std::size_t rank = 0; rank < inputs.size(); ++rank) {
      const Wide next = load(static_cast<const Stored*>(inputs[rank])[first + i]);
      if (rank == 0) {
        value = next;
      } else if (op == kMax) {
        value = std::max(value, next);
      } else if (op == kMin) {
        value = std::min(value, next);
      } else {
        value = sum_of(value, next);
      }
    }
    if (op == kAverage) value /= static_cast<Wide>(inputs.size());
    const auto stored = static_cast<Stored>(store(value));
    std::memcpy(result.data() + i * sizeof(Stored), &stored, sizeof stored);
  }
}

void reduce(const std::vector<const void*>& inputs, std::size_t first, std::vector<std::byte>& result,
            int dtype, int op) {
  const auto same = [](auto value) { return value; };
  switch (dtype) {
    case kFloat32:
      return reduce_as<float, float>(inputs, first, result, op, same, same);
    case kFloat16:
      return reduce_as<std::uint16_t, float>(inputs, first, result, op, fp16_to_float, float_to_fp16);
    case kBFloat16:
      return reduce_as<std::uint16_t, float>(inputs, first, result, op, bf16_to_float, float_to_bf16);
    case kInt32:
      return reduce_as<std::int32_t, std::int64_t>(inputs, first, result, op, same, same);
    case kInt64:
      return reduce_as<std::int64_t, std::int64_t>(inputs, first, result, op, same, same);
    default:
      return reduce_as<std::uint8_t, std::int64_t>(inputs, first, result, op, same, same);
  }
}

std::vector<std::byte> result_of(const Call& call, const World& world, int rank) {
  const std::size_t bytes = call.count * size_of(call.dtype);
  std::vector<std::byte> result(bytes);
  switch (call.kind) {
    case Kind::kAllReduce:
      reduce(world.inputs, 0, result, call.dtype, call.op);
      break;
    case Kind::kReduceScatter:
      reduce(world.inputs, static_cast<std::size_t>(rank) * call.count, result, call.dtype, call.op);
      break;
    case Kind::kBroadcast:
      std::memcpy(result.data(), world.inputs[static_cast<std::size_t>(call.root)], bytes);
      break;
    case Kind::kAllGather:
      result.resize(bytes * world.inputs.size());
      for (std::size_t from = 0; from < world.inputs.size(); ++from)
        std::memcpy(result.data() + from * bytes, world.inputs[from], bytes);
      break;
  }
  return result;
}

// On the stream's thread. False when aborted.
template <typename Condition>
bool wait(std::unique_lock<std::mutex>& lock, Communicator& comm, Condition condition) {
  comm.world->changed.wait(lock, [&] { return comm.is_aborted || condition(); });
  return !comm.is_aborted;
}

void run_collective(Communicator& comm, const Call& call) {
  World& world = *comm.world;
  std::unique_lock lock(world.mutex);
  const std::size_t size = world.inputs.size();
  if (!wait(lock, comm, [&] { return world.come < size; })) return;  // the round before has ended
  const std::uint64_t round = world.round;
  world.inputs[static_cast<std::size_t>(comm.rank)] = call.input;
  ++world.come;
  world.changed.notify_all();
  if (!wait(lock, comm, [&] { return world.come == size; })) return;
  const std::vector<std::byte> result = result_of(call, world, comm.rank);
  if (++world.gone == size) {
    world.come = world.gone = 0;
    ++world.round;
    world.changed.notify_all();
  }
  if (!wait(lock, comm, [&] { return world.round > round; })) return;
  std::memcpy(call.output, result.data(), result.size());
}

void run_messages(const std::vector<Message>& messages) {
  Communicator& comm = *messages.front().comm;
  World& world = *comm.world;
  std::unique_lock lock(world.mutex);
  for (const Message& message : messages) {
    if (!message.is_send) continue;
    const auto* data = static_cast<const std::byte*>(message.data);
    world.mail[{comm.rank, message.peer}].emplace_back(data, data + message.bytes);
  }
  world.changed.notify_all();
  for (const Message& message : messages) {
    if (message.is_send) continue;
    auto& box = world.mail[{message.peer, comm.rank}];
    if (!wait(lock, comm, [&] { return !box.empty(); })) return;
    std::memcpy(message.data, box.front().data(), message.bytes);
    box.pop_front();
    world.changed.notify_all();
  }
  for (const Message& message : messages) {
    if (message.is_send && !wait(lock, comm, [&] { return world.mail[{comm.rank, message.peer}].empty(); }))
      return;
  }
}

CommunicatorPointer& communicator_of(void* handle) {
  return *static_cast<CommunicatorPointer*>(handle);
}

// Non-blocking: done a few looks later.
int begin(Communicator& comm) {
  if (current_device() != comm.device) return kInvalidUsage;
  comm.polls_to_go = 2;
  return kInProgress;
}

int start_collectives() {
  int result = kSuccess;
  most_in_a_group = std::max<std::size_t>(most_in_a_group, collectives.size());
  for (const auto& [comm, stream, call] : std::exchange(collectives, {})) {
    result = begin(*comm);
    if (result != kInProgress) return result;
    stream_of(stream).enqueue([comm = comm, call = call] { run_collective(*comm, call); });
  }
  return result;
}

int group_end() {
  if (--group_depth > 0) return kSuccess;
  const int collectives_began = start_collectives();
  if (group.empty()) return collectives_began;
  void* stream = group.front().first;
  std::vector<Message> messages;
  for (auto& [of_stream, message] : group) messages.push_back(message);
  group.clear();
  const int result = begin(*messages.front().comm);
  if (result == kInProgress) stream_of(stream).enqueue([=] { run_messages(messages); });
  return result;
}

int collective(void* handle, void* stream, const Call& call) {
  ++group_depth;  // a lone call is a group of its own
  collectives.push_back({communicator_of(handle), stream, call});
  return group_end();
}

int add_message(void* stream, Message message) {
  ++group_depth;
  group.emplace_back(stream, std::move(message));
  return group_end();
}

void remove(void* handle, bool is_aborted) {
  const CommunicatorPointer comm = communicator_of(handle);
  if (is_aborted) {
    const std::lock_guard lock(comm->world->mutex);
    comm->is_aborted = true;
    comm->world->changed.notify_all();
  }
  delete static_cast<CommunicatorPointer*>(handle);
  --live;
}

}  // namespace

void set_asynchronous_error(int device, int result) {
  asynchronous_errors[static_cast<std::size_t>(device)] = result;
}
std::size_t largest_group() {
  return most_in_a_group.exchange(0);
}
int live_communicators() {
  return live;
}
void set_version(int version) {
  version_override = version;
}

extern "C" {

int ncclGetVersion(int* version) {
  *version = version_override != 0 ? version_override.load() : 22809;
  return kSuccess;
}
int ncclGetUniqueId(Id* id) {
  *id = {};
  const std::string text = "fake id " + std::to_string(next_id++);
  std::memcpy(id->bytes, text.data(), text.size());
  return kSuccess;
}
int ncclCommInitRankConfig(void** handle, int size, Id id, int rank, void*) {
  auto comm = std::make_shared<Communicator>();
  {
    const std::lock_guard lock(worlds_mutex);
    std::shared_ptr<World>& world = worlds[id.bytes];
    if (!world) world = std::make_shared<World>(size);
    comm->world = world;
    if (++world->joined == static_cast<std::size_t>(size)) worlds.erase(id.bytes);
  }
  comm->rank = rank;
  comm->device = current_device();
  *handle = new CommunicatorPointer(comm);
  ++live;
  return kInProgress;
}
int ncclCommFinalize(void* handle) {
  communicator_of(handle)->polls_to_go = 2;
  return kInProgress;
}
int ncclCommDestroy(void* handle) {
  remove(handle, false);
  return kSuccess;
}
int ncclCommAbort(void* handle) {
  remove(handle, true);
  return kSuccess;
}
int ncclCommGetAsyncError(void* handle, int* error) {
  Communicator& comm = *communicator_of(handle);
  *error = asynchronous_errors[static_cast<std::size_t>(comm.device)];
  if (*error != kSuccess) return kSuccess;
  const std::lock_guard lock(worlds_mutex);
  const bool has_joined = comm.world->joined == comm.world->inputs.size();
  if (!has_joined || comm.polls_to_go > 0) *error = kInProgress;
  if (has_joined && comm.polls_to_go > 0) --comm.polls_to_go;
  return kSuccess;
}
const char* ncclGetLastError(void*) {
  return "the fake's last words";
}
const char* ncclGetErrorString(int result) {
  return result == 6 ? "remote process exited or there was a network error" : "a fake error";
}
int ncclAllReduce(const void* input, void* output, std::size_t count, int dtype, int op, void* comm,
                  void* stream) {
  return collective(comm, stream, {Kind::kAllReduce, input, output, count, dtype, op, 0});
}
int ncclReduceScatter(const void* input, void* output, std::size_t count, int dtype, int op, void* comm,
                      void* stream) {
  return collective(comm, stream, {Kind::kReduceScatter, input, output, count, dtype, op, 0});
}
int ncclAllGather(const void* input, void* output, std::size_t count, int dtype, void* comm, void* stream) {
  return collective(comm, stream, {Kind::kAllGather, input, output, count, dtype, 0, 0});
}
int ncclBroadcast(const void* input, void* output, std::size_t count, int dtype, int root, void* comm,
                  void* stream) {
  return collective(comm, stream, {Kind::kBroadcast, input, output, count, dtype, 0, root});
}
int ncclSend(const void* data, std::size_t count, int dtype, int peer, void* comm, void* stream) {
  return add_message(stream,
                     {communicator_of(comm), const_cast<void*>(data), count * size_of(dtype), peer, true});
}
int ncclRecv(void* data, std::size_t count, int dtype, int peer, void* comm, void* stream) {
  return add_message(stream, {communicator_of(comm), data, count * size_of(dtype), peer, false});
}
int ncclGroupStart() {
  ++group_depth;
  return kSuccess;
}
int ncclGroupEnd() {
  return group_end();
}

}  // extern "C"

}  // namespace deepscale::fake
