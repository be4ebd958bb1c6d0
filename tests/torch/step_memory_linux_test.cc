// Large tensors in memory that stays: what one had is the next one's, its pages are there without a fault,
// and go back to the system when no step reaches them any more.
#include "runtime/engine/step_memory.h"

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <torch/torch.h>

#include <cstdint>
#include <thread>
#include <vector>

namespace deepscale {
namespace {

constexpr std::int64_t kLarge = 8 << 20;

at::Tensor filled(std::int64_t bytes) {
  return at::full({bytes}, 1, at::kByte);
}

// Of the pages from `data` on, how many are in memory.
std::int64_t resident_pages(void* data, std::int64_t bytes) {
  std::vector<unsigned char> pages(static_cast<std::size_t>(bytes / 4096));
  if (mincore(data, static_cast<std::size_t>(bytes), pages.data()) != 0) return -1;
  std::int64_t count = 0;
  for (const unsigned char page : pages) count += page & 1;
  return count;
}

TEST(StepMemory, GivesTheSamePagesInEveryStep) {
  StepMemory memory;
  void* first = nullptr;
  for (int step = 0; step < 3; ++step) {
    const at::Tensor tensor = at::empty({kLarge}, at::kByte);
    if (step == 0) first = tensor.data_ptr();
    EXPECT_EQ(tensor.data_ptr(), first);
    EXPECT_EQ(resident_pages(first, kLarge), step == 0 ? 0 : kLarge / 4096);
    tensor.fill_(step);
    memory.end_step();
  }
}

TEST(StepMemory, GivesBackWhatAStepDidNotReach) {
  StepMemory memory;
  at::Tensor low = filled(kLarge), high = filled(kLarge);
  void* const data = high.data_ptr();
  high.reset();
  memory.end_step();
  EXPECT_EQ(resident_pages(data, kLarge), kLarge / 4096);
  memory.end_step();
  EXPECT_EQ(resident_pages(data, kLarge), 0);
  EXPECT_EQ(low.sum().item<std::int64_t>(), kLarge);
}

TEST(StepMemory, GivesBackWhatIsFreeWithTheLastUser) {
  at::Tensor stays;
  void* data = nullptr;
  {
    StepMemory memory, other;
    stays = filled(kLarge);
    data = filled(kLarge).data_ptr();
    EXPECT_EQ(resident_pages(data, kLarge), kLarge / 4096);
  }
  EXPECT_EQ(resident_pages(data, kLarge), 0);
  EXPECT_EQ(stays.sum().item<std::int64_t>(), kLarge);
}

TEST(StepMemory, IsFreedOnAnyThreadAndThroughTheRawInterface) {
  StepMemory memory;
  c10::Allocator& allocator = *c10::GetCPUAllocator();
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{100}, std::size_t{kLarge}})
    allocator.raw_deallocate(allocator.raw_allocate(bytes));
  at::Tensor tensor = filled(kLarge);
  void* const data = tensor.data_ptr();
  std::thread([&] { tensor.reset(); }).join();
  EXPECT_EQ(filled(kLarge).data_ptr(), data);
}

}  // namespace
}  // namespace deepscale
