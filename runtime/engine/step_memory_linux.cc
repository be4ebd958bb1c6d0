#include "runtime/engine/step_memory.h"

#include <c10/core/CPUAllocator.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <mutex>

#include "runtime/engine/best_fit.h"

namespace deepscale {
namespace {

constexpr std::size_t kLeastBytes = 256 << 10;

// As large as the machine's memory; only what is written takes some.
class Range {
 public:
  Range() {
    void* const found = mmap(nullptr, pages_ * page_bytes_, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found != MAP_FAILED) begin_ = static_cast<std::byte*>(found);
  }
  bool is_there() const { return begin_ != nullptr; }
  bool has(const void* data) const {
    const auto address = reinterpret_cast<std::uintptr_t>(data);
    const auto begin = reinterpret_cast<std::uintptr_t>(begin_);
    return address >= begin && address - begin < pages_ * page_bytes_;
  }
  // Null where there is no room.
  void* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto page = fit_.take((bytes + page_bytes_ - 1) / page_bytes_);
    return page ? begin_ + *page * page_bytes_ : nullptr;
  }
  void give_back(void* data) {
    const std::lock_guard lock(mutex_);
    fit_.give_back(static_cast<std::size_t>(static_cast<std::byte*>(data) - begin_) / page_bytes_);
  }
  // Of the pages behind those of the step that ends.
  void end_step() {
    const std::lock_guard lock(mutex_);
    const std::size_t reached = fit_.exchange_greatest_end();
    if (reached < kept_) discard(reached, kept_ - reached);
    kept_ = reached;
  }
  void begin_user() {
    const std::lock_guard lock(mutex_);
    ++users_;
  }
  void end_user() {
    const std::lock_guard lock(mutex_);
    if (--users_ > 0) return;
    for (const auto& [page, pages] : fit_.free()) discard(page, pages);
    kept_ = fit_.end();
  }

 private:
  void discard(std::size_t page, std::size_t pages) {
    madvise(begin_ + page * page_bytes_, pages * page_bytes_, MADV_DONTNEED);
  }

  const std::size_t page_bytes_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t pages_ = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES));
  std::byte* begin_ = nullptr;
  std::mutex mutex_;
  BestFit fit_{pages_};
  std::size_t kept_ = 0;  // no page behind this one has been used since the last step
  int users_ = 0;
};

// Lives as long as the process, since tensors may.
Range& range() {
  static Range& made = *new Range;
  return made;
}

void free_either(void* data) {
  if (data == nullptr || !range().has(data)) return c10::GetDefaultCPUAllocator()->raw_deleter()(data);
  c10::profiledCPUMemoryReporter().Delete(data);
  range().give_back(data);
}

// In front of LibTorch's own.
class StepAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = bytes < kLeastBytes ? nullptr : range().take(bytes);
    if (data == nullptr) {
      data = c10::GetDefaultCPUAllocator()->raw_allocate(bytes);
    } else {
      c10::profiledCPUMemoryReporter().New(data, bytes);
    }
    return {data, data, free_either, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free_either; }
  void copy_data(void* destination, const void* source, std::size_t count) const override {
    default_copy_data(destination, source, count);
  }
};

bool install() {
  if (c10::GetCPUAllocator() != c10::GetDefaultCPUAllocator() || !range().is_there()) return false;
  c10::SetCPUAllocator(new StepAllocator);  // which LibTorch never deletes
  return true;
}

}  // namespace

StepMemory::StepMemory() {
  static const bool is_installed = install();
  (void)is_installed;
  if (range().is_there()) range().begin_user();
  malloc_trim(0);
}

StepMemory::~StepMemory() {
  if (range().is_there()) range().end_user();
}

void StepMemory::end_step() {
  if (range().is_there()) range().end_step();
}

}  // namespace deepscale
