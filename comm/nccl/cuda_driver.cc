#include "comm/nccl/cuda_driver.h"

#include <fmt/core.h>

#include <cstdint>
#include <optional>

#include "comm/base/error.h"

namespace deepscale::cuda {

namespace {

// cuda.h's names for these numbers.
constexpr int kErrorNotReady = 600;
constexpr unsigned kStreamNonBlocking = 1;
constexpr unsigned kEventDisableTiming = 2;

DynamicLibrary load_driver(const std::string& library) {
  if (!library.empty()) return DynamicLibrary::load(library);
  std::optional<DynamicLibrary> driver = DynamicLibrary::open({"libcuda.so.1", "nvcuda.dll"});
  if (driver) return *driver;
  throw Error(ErrorCode::kNotFound, "there is no NVIDIA driver (libcuda.so.1) on this machine");
}

template <typename Signature>
void find(const DynamicLibrary& library, const char* name, Signature*& function) {
  function = library.function<Signature>(name);
  if (function == nullptr) {
    throw Error(ErrorCode::kUnsupported, fmt::format("the NVIDIA driver is too old: it has no {}", name));
  }
}

}  // namespace

DriverApi::DriverApi(const std::string& library_name) : library(load_driver(library_name)) {
  find(library, "cuInit", init);
  find(library, "cuGetErrorString", get_error_string);
  find(library, "cuDeviceGetCount", device_get_count);
  find(library, "cuDeviceGet", device_get);
  find(library, "cuDeviceGetUuid_v2", device_get_uuid);
  find(library, "cuDevicePrimaryCtxRetain", primary_context_retain);
  find(library, "cuDevicePrimaryCtxRelease_v2", primary_context_release);
  find(library, "cuCtxPushCurrent_v2", context_push);
  find(library, "cuCtxPopCurrent_v2", context_pop);
  find(library, "cuStreamCreate", stream_create);
  find(library, "cuStreamDestroy_v2", stream_destroy);
  find(library, "cuStreamWaitEvent", stream_wait_event);
  find(library, "cuEventCreate", event_create);
  find(library, "cuEventDestroy_v2", event_destroy);
  find(library, "cuEventRecord", event_record);
  find(library, "cuEventQuery", event_query);
  find(library, "cuMemAlloc_v2", memory_allocate);
  find(library, "cuMemFree_v2", memory_free);
  find(library, "cuMemcpy", memory_copy);
  find(library, "cuStreamSynchronize", stream_synchronize);
}

void DriverApi::check(int result, const char* call) const {
  if (result == 0) return;
  const char* text = nullptr;
  if (get_error_string(result, &text) != 0 || text == nullptr) text = "an unknown error";
  throw Error(ErrorCode::kSystem, fmt::format("CUDA: {}: {} (error {})", call, text, result));
}

Device::Device(const std::string& library, int index) : api_(library) {
  api_.check(api_.init(0), "cuInit");
  int count = 0;
  api_.check(api_.device_get_count(&count), "cuDeviceGetCount");
  if (index < 0 || index >= count) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("there is no CUDA device {}: this process sees {}", index, count));
  }
  api_.check(api_.device_get(&device_, index), "cuDeviceGet");
  api_.check(api_.device_get_uuid(uuid_.data(), device_), "cuDeviceGetUuid");
  api_.check(api_.primary_context_retain(&context_, device_), "cuDevicePrimaryCtxRetain");
}

Device::~Device() {
  api_.primary_context_release(device_);
}

Device::Current::Current(const Device& device) : device_(device) {
  device_.api_.check(device_.api_.context_push(device_.context_), "cuCtxPushCurrent");
}

Device::Current::~Current() {
  void* context = nullptr;
  device_.api_.context_pop(&context);
}

Event::Event(std::shared_ptr<const Device> device) : device_(std::move(device)) {
  const Device::Current current(*device_);
  device_->api().check(device_->api().event_create(&event_, kEventDisableTiming), "cuEventCreate");
}

Event::~Event() {
  device_->api().event_destroy(event_);
}

void Event::record(StreamHandle stream) {
  const Device::Current current(*device_);  // the default stream is that of the current device
  device_->api().check(device_->api().event_record(event_, stream), "cuEventRecord");
}

bool Event::is_done() const {
  const int result = device_->api().event_query(event_);
  if (result == kErrorNotReady) return false;
  device_->api().check(result, "cuEventQuery");
  return true;
}

void Event::hold_back(StreamHandle stream) const {
  const Device::Current current(*device_);
  device_->api().check(device_->api().stream_wait_event(stream, event_, 0), "cuStreamWaitEvent");
}

Stream::Stream(std::shared_ptr<const Device> device) : device_(std::move(device)) {
  const Device::Current current(*device_);
  device_->api().check(device_->api().stream_create(&stream_, kStreamNonBlocking), "cuStreamCreate");
}

Stream::~Stream() {
  device_->api().stream_destroy(stream_);
}

Memory::Memory(std::shared_ptr<const Device> device, std::size_t bytes) : device_(std::move(device)) {
  const Device::Current current(*device_);
  device_->api().check(device_->api().memory_allocate(&address_, bytes), "cuMemAlloc");
}

Memory::~Memory() {
  try {
    const Device::Current current(*device_);
    device_->api().memory_free(address_);
  } catch (const Error&) {
    // The GPU has failed, and with it went the memory.
  }
}

void copy(const Device& device, void* to, const void* from, std::size_t bytes) {
  const Device::Current current(device);
  const auto address = [](const void* place) {
    return static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(place));
  };
  device.api().check(device.api().memory_copy(address(to), address(from), bytes), "cuMemcpy");
  device.api().check(device.api().stream_synchronize(nullptr), "cuStreamSynchronize");
}

}  // namespace deepscale::cuda
