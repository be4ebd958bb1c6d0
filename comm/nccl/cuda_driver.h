// As much of CUDA as moving data between GPUs needs, through the driver's library, which is loaded at run
// time: so this builds without the CUDA toolkit, and a machine without a GPU gets an Error.
//
// Streams are those of the CUDA runtime too (a cudaStream_t is a CUstream), in the device's primary context.
// Any thread may call anything here; nothing blocks but copy(). Every call that the driver refuses is
// Error(kSystem) with its reason.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "comm/base/dynamic_library.h"

namespace deepscale::cuda {

using StreamHandle = void*;  // CUstream; null is the default stream
using EventHandle = void*;   // CUevent
using Uuid = std::array<char, 16>;

// The driver's functions, under their names without "cu" (docs.nvidia.com/cuda/cuda-driver-api). They return
// 0 or an error number.
struct DriverApi {
  // Error(kNotFound) where the library is missing, kUnsupported where it is too old.
  explicit DriverApi(const std::string& library);

  DynamicLibrary library;
  int (*init)(unsigned flags);
  int (*get_error_string)(int error, const char** text);
  int (*device_get_count)(int* count);
  int (*device_get)(int* device, int index);
  int (*device_get_uuid)(char* uuid, int device);  // 16 bytes
  int (*primary_context_retain)(void** context, int device);
  int (*primary_context_release)(int device);
  int (*context_push)(void* context);
  int (*context_pop)(void** context);
  int (*stream_create)(StreamHandle* stream, unsigned flags);
  int (*stream_destroy)(StreamHandle stream);
  int (*stream_wait_event)(StreamHandle stream, EventHandle event, unsigned flags);
  int (*event_create)(EventHandle* event, unsigned flags);
  int (*event_destroy)(EventHandle event);
  int (*event_record)(EventHandle event, StreamHandle stream);
  int (*event_query)(EventHandle event);
  int (*memory_allocate)(unsigned long long* address, std::size_t bytes);
  int (*memory_free)(unsigned long long address);
  int (*memory_copy)(unsigned long long to, unsigned long long from, std::size_t bytes);
  int (*stream_synchronize)(StreamHandle stream);

  // Throws unless `result` is 0; `call` is the name of the function.
  void check(int result, const char* call) const;
};

// One GPU with its primary context, which it keeps alive.
class Device {
 public:
  // `index` counts the devices that are visible to this process. An empty `library` is the system's driver.
  Device(const std::string& library, int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const DriverApi& api() const { return api_; }
  const Uuid& uuid() const { return uuid_; }

  // Makes the device the current one of this thread, for the driver and the CUDA runtime, until it ends.
  class Current {
   public:
    explicit Current(const Device& device);
    ~Current();
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

   private:
    const Device& device_;
  };

 private:
  DriverApi api_;
  int device_ = 0;
  void* context_ = nullptr;
  Uuid uuid_{};
};

// A point in a stream.
class Event {
 public:
  explicit Event(std::shared_ptr<const Device> device);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // The point behind everything that is in the stream now.
  void record(StreamHandle stream);
  bool is_done() const;
  // What enters the stream from now on starts after this point.
  void hold_back(StreamHandle stream) const;

 private:
  const std::shared_ptr<const Device> device_;
  EventHandle event_ = nullptr;
};

// A stream that the default stream does not wait for, nor it for that.
class Stream {
 public:
  explicit Stream(std::shared_ptr<const Device> device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  StreamHandle handle() const { return stream_; }

 private:
  const std::shared_ptr<const Device> device_;
  StreamHandle stream_ = nullptr;
};

// Memory of the GPU.
class Memory {
 public:
  Memory(std::shared_ptr<const Device> device, std::size_t bytes);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  std::byte* data() const { return reinterpret_cast<std::byte*>(address_); }

 private:
  const std::shared_ptr<const Device> device_;
  unsigned long long address_ = 0;
};

// Between any two places in memory of the GPU and of the host; blocks until done.
void copy(const Device& device, void* to, const void* from, std::size_t bytes);

}  // namespace deepscale::cuda
