// What only the shared-memory backend has: memory that the peers read in place, and its segments.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <random>

#include "comm/shm/shared_segment.h"
#include "tests/comm/ranks.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kInt64, DType::kUInt8};
constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kAverage, ReduceOp::kMax};

// Buffers of one operation, in memory of either kind.
struct Buffers {
  Buffer input;
  Buffer output;
  std::size_t bytes() const { return input.bytes() + output.bytes(); }
};

Buffers lay_out(std::byte* memory, std::int64_t input_count, std::int64_t output_count, DType dtype) {
  Buffers buffers{{memory, input_count, dtype}, {nullptr, output_count, dtype}};
  buffers.output.data = memory + buffers.input.bytes();
  return buffers;
}

using Run = std::function<Work(Communicator&, const Buffers&)>;

// Runs an operation on shared and on plain memory with the same content; afterwards both have to be the same.
void compare(Communicator& ranks, std::byte* shared, const Buffers& buffers, const Run& run) {
  std::mt19937 random(static_cast<std::uint32_t>(ranks.rank() + 1));
  std::vector<std::byte> plain(buffers.bytes());
  // Small whole numbers in the lower bits: finite in every dtype.
  for (std::byte& byte : plain) byte = static_cast<std::byte>(random() % 0x3f);
  std::copy(plain.begin(), plain.end(), shared);
  Buffers plain_buffers = buffers;
  plain_buffers.input.data = plain.data();
  plain_buffers.output.data = plain.data() + buffers.input.bytes();
  run(ranks, buffers).wait();
  run(ranks, plain_buffers).wait();
  EXPECT_EQ(std::memcmp(shared, plain.data(), plain.size()), 0);
}

class SharedMemory : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Worlds, SharedMemory, ::testing::Values(1, 2, 3, 5));

TEST_P(SharedMemory, OperationsInPlaceEqualThoseOnPlainMemory) {
  run_good_ranks("shm", GetParam(), [](Communicator& ranks) {
    constexpr std::int64_t kCount = 33'333;  // a slice; several blocks, and no multiple of one
    const std::int64_t whole = kCount * ranks.size();
    const auto memory = ranks.allocate_shared(static_cast<std::size_t>(2 * whole) * sizeof(std::int64_t));
    std::byte* shared = memory.get();
    for (const DType dtype : kDTypes) {
      SCOPED_TRACE(dtype_name(dtype));
      for (const ReduceOp op : kOps) {
        compare(ranks, shared, lay_out(shared, whole - 1, 0, dtype),
                [op](Communicator& all, const Buffers& own) { return all.all_reduce(own.input, op); });
        compare(ranks, shared, lay_out(shared, whole, kCount, dtype),
                [op](Communicator& all, const Buffers& own) {
                  return all.reduce_scatter(own.input, own.output, op);
                });
      }
      compare(ranks, shared, lay_out(shared, kCount, whole, dtype),
              [](Communicator& all, const Buffers& own) { return all.all_gather(own.input, own.output); });
      compare(ranks, shared, lay_out(shared, whole, 0, dtype),
              [](Communicator& all, const Buffers& own) { return all.broadcast(own.input, all.size() - 1); });
      compare(ranks, shared, lay_out(shared, whole, whole, dtype),
              [](Communicator& all, const Buffers& own) { return all.all_to_all(own.input, own.output); });
    }
  });
}

TEST_P(SharedMemory, SlicesOfTheSameBufferMayBeInputAndOutput) {
  run_good_ranks("shm", GetParam(), [](Communicator& ranks) {
    constexpr std::int64_t kCount = 20'000;
    const std::int64_t whole = kCount * ranks.size();
    const auto memory = ranks.allocate_shared(static_cast<std::size_t>(whole) * sizeof(float));
    auto* values = reinterpret_cast<float*>(memory.get());
    const Buffer all{.data = values, .count = whole};
    const Buffer own{.data = values + ranks.rank() * kCount, .count = kCount};
    for (int round = 0; round < 10; ++round) {
      std::fill(values, values + whole, static_cast<float>(ranks.rank() + round));
      ranks.reduce_scatter(all, own, ReduceOp::kMax).wait();
      ranks.all_gather(own, all).wait();
      const auto largest = static_cast<float>(ranks.size() - 1 + round);
      EXPECT_EQ(std::count(values, values + whole, largest), whole);
    }
  });
}

// Another place in the memory on every rank, and plain memory on one of them: less common, not less right.
TEST(SharedMemoryMixed, RanksMayUseDifferentPlaces) {
  run_good_ranks("shm", 3, [](Communicator& ranks) {
    constexpr std::int64_t kCount = 50'000;
    const auto memory = ranks.allocate_shared(4 * kCount * sizeof(float));
    auto* shared = reinterpret_cast<float*>(memory.get());
    std::vector<float> plain(kCount);
    for (float* values : {shared + ranks.rank() * kCount, ranks.rank() == 1 ? plain.data() : shared}) {
      std::fill(values, values + kCount, static_cast<float>(ranks.rank() + 1));
      ranks.all_reduce({.data = values, .count = kCount}, ReduceOp::kSum).wait();
      EXPECT_EQ(std::count(values, values + kCount, 6.0f), kCount);
    }
  });
}

TEST(SharedMemoryMixed, MemoryIsZeroAlignedAndOutlivesTheCommunicator) {
  for (const char* backend : {"tcp", "shm"}) {
    std::array<std::shared_ptr<std::byte>, 2> kept;
    run_good_ranks(backend, 2, [&](Communicator& ranks) {
      const auto first = ranks.allocate_shared(1000), second = ranks.allocate_shared(100'000);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(second.get()) % 4096, 0u);
      EXPECT_EQ(std::count(second.get(), second.get() + 100'000, std::byte{0}), 100'000);
      EXPECT_NE(ranks.allocate_shared(0), nullptr);
      kept[static_cast<std::size_t>(ranks.rank())] = second;
    });
    for (const auto& memory : kept) std::fill(memory.get(), memory.get() + 100'000, std::byte{1});
    EXPECT_EQ(kept[0].get()[99'999], std::byte{1});
  }
}

TEST_P(SharedMemory, CommonMemoryIsTheSameOnAllRanksAndOutlivesTheCommunicator) {
  constexpr std::size_t kBytes = 100'001;
  std::vector<std::shared_ptr<std::byte>> kept(static_cast<std::size_t>(GetParam()));
  run_good_ranks("shm", GetParam(), [&](Communicator& ranks) {
    ASSERT_TRUE(ranks.has_common_memory());
    const auto memory = ranks.allocate_common(kBytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.get()) % 4096, 0u);
    EXPECT_EQ(std::count(memory.get(), memory.get() + kBytes, std::byte{0}), kBytes);
    for (int writer = 0; writer < ranks.size(); ++writer) {
      ranks.barrier().wait();
      if (ranks.rank() == writer)
        std::fill(memory.get(), memory.get() + kBytes, static_cast<std::byte>(writer + 1));
      ranks.barrier().wait();
      EXPECT_EQ(std::count(memory.get(), memory.get() + kBytes, static_cast<std::byte>(writer + 1)), kBytes);
    }
    kept[static_cast<std::size_t>(ranks.rank())] = memory;
  });
  kept.front().get()[kBytes - 1] = std::byte{77};
  EXPECT_EQ(kept.back().get()[kBytes - 1], std::byte{77});
}

TEST(SharedMemoryMixed, OtherBackendsHaveNoCommonMemory) {
  run_good_ranks("tcp", 2, [](Communicator& ranks) {
    EXPECT_FALSE(ranks.has_common_memory());
    EXPECT_THROW(ranks.allocate_common(1), Error);
  });
}

TEST(SharedMemoryMixed, CommonMemoryThatDoesNotFitIsAnErrorOnAllRanks) {
  run_good_ranks("shm", 3, [](Communicator& ranks) {
    try {
      ranks.allocate_common(std::size_t{1} << 60);
      ADD_FAILURE() << "an exabyte of memory";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kSystem);
      EXPECT_THAT(error.what(), HasSubstr(ranks.rank() == 0 ? "no room" : "rank 0 could not get its part"));
    }
  });
}

TEST(SharedMemoryMixed, WhatDoesNotFitIsAnErrorOnAllRanksAndBreaksNothing) {
  run_good_ranks("shm", 2, [](Communicator& ranks) {
    try {
      ranks.allocate_shared(ranks.rank() == 0 ? 1000 : std::size_t{1} << 60);
      ADD_FAILURE() << "an exabyte of memory";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kSystem);
      EXPECT_THAT(error.what(), HasSubstr(ranks.rank() == 0 ? "rank 1 could not get its part" : "no room"));
    }
    std::vector<float> values(20'000, 1.0f);
    ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
    EXPECT_EQ(values.back(), 2.0f);
  });
}

TEST(SharedSegment, BothMappingsShowTheSameBytes) {
  auto made = shm::SharedSegment::create(10'000);
  auto opened = shm::SharedSegment::open(made.name(), 10'000);
  EXPECT_LE(made.name().size(), shm::SharedSegment::kNameLength);
  EXPECT_EQ(opened.data()[9'999], std::byte{0});
  made.data()[9'999] = std::byte{7};
  EXPECT_EQ(opened.data()[9'999], std::byte{7});
}

TEST(SharedSegment, AForgottenNameLeadsNowhereAndTheMemoryStays) {
  auto made = shm::SharedSegment::create(100);
  const std::string name = made.name();
  auto opened = shm::SharedSegment::open(name, 100);
  made.forget_name();
  { const auto gone = std::move(made); }
  opened.data()[99] = std::byte{1};
  try {
    shm::SharedSegment::open(name, 100);
    FAIL() << "a segment that nobody can know any more";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), HasSubstr("on this host"));
  }
}

TEST(SharedSegment, PartsThatAreTakenLaterKeepWhatIsThere) {
  constexpr std::size_t kPart = 100'000;
  auto made = shm::SharedSegment::create(1000 * kPart, shm::SharedSegment::Pages::kLater);
  auto opened = shm::SharedSegment::open(made.name(), 1000 * kPart, shm::SharedSegment::Pages::kLater);
  made.data()[999 * kPart] = std::byte{7};
  opened.take(999 * kPart - 10, kPart);
  EXPECT_EQ(opened.data()[999 * kPart], std::byte{7});
  opened.data()[999 * kPart + 1] = std::byte{8};
  EXPECT_EQ(made.data()[999 * kPart + 1], std::byte{8});
}

TEST(SharedSegment, ALackOfMemoryIsAnError) {
  try {
    shm::SharedSegment::create(std::size_t{1} << 60);
    FAIL() << "an exabyte of memory";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), HasSubstr("shared memory segment of 1152921504606846976 bytes"));
  }
}

TEST(ShmRendezvous, ARankThatCannotShareMakesAllOfThemSayWhy) {
  const auto store = std::make_shared<MemoryStore>();
  // Rank 0 is elsewhere: it tells of memory that is not on this host.
  store->set("communicator/world/shm/rank 0", "3 2 ok 999999999 3 deepscale-0");
  store->set("communicator/world/shm/all", "999999999 3 deepscale-0\n\n");
  store->set("communicator/world/shm, mapped/rank 0", "3 2 ok ");
  store->set("communicator/world/shm, mapped/all", "\n");  // somebody failed
  try {
    make_shm_communicator(1, 2, store, {.timeout = std::chrono::seconds(30)});
    FAIL() << "a peer that is not there";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), HasSubstr("rank 1: "));
  }
  EXPECT_THAT(store->get("communicator/world/shm, mapped/rank 1", Deadline::after(std::chrono::seconds(30))),
              HasSubstr("failed"));
}

TEST(SharedMemoryMixed, ManyRanksMeetAndMove) {
  run_good_ranks("shm", 20, [](Communicator& ranks) {
    const int next = (ranks.rank() + 1) % ranks.size(), previous = (ranks.rank() + 19) % ranks.size();
    std::vector<float> values(50'000, 1.0f), received(50'000);
    ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
    EXPECT_EQ(std::count(values.begin(), values.end(), 20.0f), 50'000);
    Work sending = ranks.send(buffer_of(values), next);
    ranks.receive(buffer_of(received), previous).wait();
    sending.wait();
    EXPECT_EQ(received, values);
  });
}

// A store in which rank 1 tells that it could not make its memory.
class StoreOfFailures final : public MemoryStore {
 public:
  void set(std::string_view key, std::string_view value) override {
    const bool is_rendezvous = key.find("/shm/") != std::string_view::npos;
    MemoryStore::set(key, is_rendezvous && key.ends_with("1") ? "3 2 failed there is no room" : value);
  }
};

TEST(ShmRendezvous, RanksThatCannotShareMeetOverTcp) {
  const auto store = std::make_shared<StoreOfFailures>();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      WorldLayout layout;
      layout.rank = rank;
      layout.world_size = 2;
      const auto ranks = make_communicator(layout, store, {.timeout = std::chrono::seconds(30)});
      EXPECT_STREQ(ranks->backend(), "tcp");
      std::vector<float> values(3, 1.0f);
      ranks->all_reduce(buffer_of(values), ReduceOp::kSum).wait();
      EXPECT_EQ(values[2], 2.0f);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace deepscale
