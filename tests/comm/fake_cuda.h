// Streams of the fake GPUs, for the fake NCCL: a thread that runs what was enqueued, in order.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace deepscale::fake {

class FakeStream {
 public:
  FakeStream();
  ~FakeStream();  // runs what is in it first
  void enqueue(std::function<void()> task);
  void synchronize();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool is_busy_ = false;
  bool ending_ = false;
  std::thread thread_;
};

// The stream behind a handle; null is the default stream of this thread's current device.
FakeStream& stream_of(void* handle);
int current_device();  // -1: none

}  // namespace deepscale::fake
