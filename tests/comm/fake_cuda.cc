#include "tests/comm/fake_cuda.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "tests/comm/fake_gpu.h"

namespace deepscale::fake {

namespace {

constexpr int kDevices = 8;
constexpr int kInvalidValue = 1;
constexpr int kNotReady = 600;
constexpr int kInvalidContext = 201;

struct FakeDevice {
  int retained = 0;
  std::unique_ptr<FakeStream> default_stream;
};

struct Machine {
  std::mutex mutex;
  std::array<FakeDevice, kDevices> devices;
};

Machine& machine() {
  static Machine the_machine;
  return the_machine;
}

thread_local std::vector<FakeDevice*> context_stack;

// An event is done when the last record() of it has passed its stream.
struct FakeEvent {
  std::mutex mutex;
  std::condition_variable changed;
  int recorded = 0;
  int passed = 0;

  void wait_for(int target) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return passed >= target; });
  }
};
using EventPointer = std::shared_ptr<FakeEvent>;

EventPointer& event_of(void* handle) {
  return *static_cast<EventPointer*>(handle);
}

}  // namespace

FakeStream::FakeStream() : thread_([this] { run(); }) {}

FakeStream::~FakeStream() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void FakeStream::enqueue(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  changed_.notify_all();
}

void FakeStream::synchronize() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return tasks_.empty() && !is_busy_; });
}

void FakeStream::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    is_busy_ = true;
    lock.unlock();
    task();
    lock.lock();
    is_busy_ = false;
    changed_.notify_all();
  }
}

FakeStream& stream_of(void* handle) {
  if (handle != nullptr) return *static_cast<FakeStream*>(handle);
  const std::lock_guard lock(machine().mutex);
  FakeDevice& device = context_stack.empty() ? machine().devices[0] : *context_stack.back();
  if (!device.default_stream) device.default_stream = std::make_unique<FakeStream>();
  return *device.default_stream;
}

int current_device() {
  return context_stack.empty() ? -1 : static_cast<int>(context_stack.back() - machine().devices.data());
}

namespace {

FakeStream& stream_on(int device, void* stream) {
  context_stack.push_back(&machine().devices[static_cast<std::size_t>(device)]);
  FakeStream& found = stream_of(stream);
  context_stack.pop_back();
  return found;
}

}  // namespace

void* make_stream(int) {
  return new FakeStream;
}
void destroy_stream(int, void* stream) {
  delete static_cast<FakeStream*>(stream);
}
void enqueue(int device, void* stream, void (*function)(void*), void* argument) {
  stream_on(device, stream).enqueue([=] { function(argument); });
}
void synchronize(int device, void* stream) {
  stream_on(device, stream).synchronize();
}

extern "C" {

int cuInit(unsigned) {
  return 0;
}
int cuGetErrorString(int error, const char** text) {
  *text = error == kInvalidContext ? "no context is current" : "a fake error";
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = kDevices;
  return 0;
}
int cuDeviceGet(int* device, int index) {
  *device = index;
  return index < kDevices ? 0 : kInvalidValue;
}
int cuDeviceGetUuid_v2(char* uuid, int device) {
  std::memset(uuid, 0, 16);
  uuid[15] = static_cast<char>(device + 1);
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  const std::lock_guard lock(machine().mutex);
  FakeDevice& found = machine().devices[static_cast<std::size_t>(device)];
  ++found.retained;
  *context = &found;
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  const std::lock_guard lock(machine().mutex);
  return --machine().devices[static_cast<std::size_t>(device)].retained >= 0 ? 0 : kInvalidContext;
}
int cuCtxPushCurrent_v2(void* context) {
  context_stack.push_back(static_cast<FakeDevice*>(context));
  return 0;
}
int cuCtxPopCurrent_v2(void** context) {
  if (context_stack.empty()) return kInvalidContext;
  *context = context_stack.back();
  context_stack.pop_back();
  return 0;
}
int cuStreamCreate(void** stream, unsigned) {
  if (context_stack.empty()) return kInvalidContext;
  *stream = new FakeStream;
  return 0;
}
int cuStreamDestroy_v2(void* stream) {
  delete static_cast<FakeStream*>(stream);
  return 0;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned) {
  const EventPointer waited_for = event_of(event);
  int target = 0;
  {
    const std::lock_guard lock(waited_for->mutex);
    target = waited_for->recorded;
  }
  stream_of(stream).enqueue([=] { waited_for->wait_for(target); });
  return 0;
}
int cuEventCreate(void** event, unsigned) {
  if (context_stack.empty()) return kInvalidContext;
  *event = new EventPointer(std::make_shared<FakeEvent>());
  return 0;
}
int cuEventDestroy_v2(void* event) {
  delete static_cast<EventPointer*>(event);
  return 0;
}
int cuEventRecord(void* event, void* stream) {
  if (context_stack.empty()) return kInvalidContext;
  const EventPointer recorded = event_of(event);
  int target = 0;
  {
    const std::lock_guard lock(recorded->mutex);
    target = ++recorded->recorded;
  }
  stream_of(stream).enqueue([=] {
    const std::lock_guard lock(recorded->mutex);
    recorded->passed = target;
    recorded->changed.notify_all();
  });
  return 0;
}
int cuMemAlloc_v2(unsigned long long* address, std::size_t bytes) {
  if (context_stack.empty()) return kInvalidContext;
  *address = reinterpret_cast<std::uintptr_t>(::operator new(bytes));
  return 0;
}
int cuMemFree_v2(unsigned long long address) {
  ::operator delete(reinterpret_cast<void*>(address));
  return 0;
}
int cuMemcpy(unsigned long long to, unsigned long long from, std::size_t bytes) {
  if (context_stack.empty()) return kInvalidContext;
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  return 0;
}
int cuStreamSynchronize(void* stream) {
  stream_of(stream).synchronize();
  return 0;
}
int cuEventQuery(void* event) {
  const EventPointer& asked = event_of(event);
  const std::lock_guard lock(asked->mutex);
  return asked->passed >= asked->recorded ? 0 : kNotReady;
}

}  // extern "C"

}  // namespace deepscale::fake
