// The NCCL backend over a fake driver and a fake NCCL (fake_gpu.h): ranks are threads, GPUs too. What the
// real library computes is for tests/cuda.
#include "comm/nccl/nccl_communicator.h"

#include <gmock/gmock.h>

#include <future>
#include <random>

#include "comm/nccl/device_queue.h"
#include "comm/nccl/rank_device.h"
#include "tests/comm/fake_gpu.h"
#include "tests/comm/ranks.h"

namespace deepscale {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr auto kGenerous = seconds(60);

NcclOptions fake_options(int device, Clock::duration timeout = kGenerous) {
  return {.device = device,
          .timeout = timeout,
          .nccl_library = DEEPSCALE_FAKE_GPU,
          .driver_library = DEEPSCALE_FAKE_GPU};
}

struct World {
  std::shared_ptr<MemoryStore> store = std::make_shared<MemoryStore>();
  Clock::duration timeout = kGenerous;

  std::unique_ptr<Communicator> connect(int rank, int size, NcclOptions options) const {
    std::shared_ptr<Communicator> host =
        size == 1 ? make_single_communicator()
                  : make_tcp_communicator(rank, size, store, {.timeout = kGenerous, .name = options.name});
    return make_nccl_communicator(std::move(host), store, options);
  }

  // A body that throws ends its own rank only.
  std::vector<RankOutcome> run(int size, const RankBody& body) const {
    std::vector<RankOutcome> outcomes(static_cast<std::size_t>(size));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          body(*connect(rank, size, fake_options(rank, timeout)));
        } catch (const Error& error) {
          outcomes[static_cast<std::size_t>(rank)] = {true, error.code(), error.what()};
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return outcomes;
  }
  void run_good(int size, const RankBody& body) const {
    for (const RankOutcome& outcome : run(size, body)) EXPECT_FALSE(outcome.failed) << outcome.message;
  }
};

Buffer device_buffer(std::vector<float>& values, void* stream = nullptr) {
  Buffer buffer = buffer_of(values);
  buffer.device = DeviceKind::kCuda;
  buffer.stream = stream;
  return buffer;
}

Buffer on_device(Buffer buffer) {
  buffer.device = DeviceKind::kCuda;
  return buffer;
}

// --- what is computed: the same as by the communicator of CPU buffers
// ---------------------------------------

using Bytes = std::vector<std::byte>;

struct Drawn {
  DType dtype;
  ReduceOp op;
  std::int64_t count;
  int root;
};

Drawn draw(std::mt19937& random, int size) {
  constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16,
                               DType::kInt32,   DType::kInt64,    DType::kUInt8};
  constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kAverage, ReduceOp::kMax, ReduceOp::kMin};
  constexpr std::int64_t kCounts[] = {0, 1, 3, 64, 1025};
  return {kDTypes[random() % std::size(kDTypes)], kOps[random() % std::size(kOps)],
          kCounts[random() % std::size(kCounts)], static_cast<int>(random() % static_cast<unsigned>(size))};
}

Bytes random_bytes(std::uint32_t seed, std::int64_t count, DType dtype) {
  std::mt19937 random(seed);
  Bytes bytes(static_cast<std::size_t>(count) * size_of(dtype));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() % 60);  // finite in every dtype
  return bytes;
}

Buffer as_buffer(Bytes& bytes, DType dtype) {
  return {bytes.data(), static_cast<std::int64_t>(bytes.size() / size_of(dtype)), dtype};
}

using Operation = std::function<Work(Communicator& ranks, Buffer whole, Buffer slice, Buffer other)>;

void expect_same_on_both(Communicator& ranks, const Drawn& drawn, const Operation& operation) {
  const auto seed = static_cast<std::uint32_t>(ranks.rank());
  Bytes whole = random_bytes(seed, drawn.count * ranks.size(), drawn.dtype);
  Bytes slice = random_bytes(seed + 100, drawn.count, drawn.dtype);
  Bytes other(whole.size());
  Bytes host_whole = whole, host_slice = slice, host_other = other;
  operation(ranks, on_device(as_buffer(whole, drawn.dtype)), on_device(as_buffer(slice, drawn.dtype)),
            on_device(as_buffer(other, drawn.dtype)))
      .wait();
  operation(ranks, as_buffer(host_whole, drawn.dtype), as_buffer(host_slice, drawn.dtype),
            as_buffer(host_other, drawn.dtype))
      .wait();
  EXPECT_EQ(whole, host_whole);
  EXPECT_EQ(slice, host_slice);
  EXPECT_EQ(other, host_other);
}

class NcclWorlds : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, NcclWorlds, ::testing::Values(1, 2, 3, 4));

TEST_P(NcclWorlds, ComputeWhatTheHostDoes) {
  World().run_good(GetParam(), [](Communicator& ranks) {
    std::mt19937 random(7);  // the same on every rank
    for (int round = 0; round < 12; ++round) {
      const Drawn drawn = draw(random, ranks.size());
      expect_same_on_both(ranks, drawn, [&](Communicator& all, Buffer whole, Buffer, Buffer) {
        return all.all_reduce(whole, drawn.op);
      });
      expect_same_on_both(ranks, drawn, [&](Communicator& all, Buffer whole, Buffer slice, Buffer) {
        return all.reduce_scatter(whole, slice, drawn.op);
      });
      expect_same_on_both(ranks, drawn, [&](Communicator& all, Buffer whole, Buffer slice, Buffer) {
        return all.all_gather(slice, whole);
      });
      expect_same_on_both(ranks, drawn, [&](Communicator& all, Buffer whole, Buffer, Buffer) {
        return all.broadcast(whole, drawn.root);
      });
      expect_same_on_both(ranks, drawn, [&](Communicator& all, Buffer whole, Buffer, Buffer other) {
        return all.all_to_all(whole, other);
      });
    }
    ranks.barrier().wait();
  });
  EXPECT_EQ(fake::live_communicators(), 0);
}

// --- order
// ----------------------------------------------------------------------------------------------------

// Holds a stream until it is opened.
struct Gate {
  std::promise<void> promise;
  std::shared_future<void> opened = promise.get_future().share();
  void open() { promise.set_value(); }
  static void pass(void* gate) { static_cast<Gate*>(gate)->opened.wait(); }
};

TEST(NcclCommunicator, IsSplitAndTakesManyBuffersAtOnce) {
  World().run_good(4, [](Communicator& ranks) {
    const auto pair = ranks.split(ranks.rank() % 2, -ranks.rank());
    const auto none = ranks.split(-1, 0);
    EXPECT_EQ(none, nullptr);
    ASSERT_STREQ(pair->backend(), "nccl");
    EXPECT_EQ(pair->rank(), ranks.rank() < 2 ? 1 : 0) << "the smaller key comes first";
    std::vector<float> of_all(10, 1.0f), first(10, 1.0f), second(1000, static_cast<float>(ranks.rank()));
    Work all = ranks.all_reduce(device_buffer(of_all), ReduceOp::kSum);
    Work both =
        pair->all_reduce_each(std::vector{device_buffer(first), device_buffer(second)}, ReduceOp::kSum);
    void* later = fake::make_stream(ranks.rank());
    both.wait_on(later);
    fake::synchronize(ranks.rank(), later);
    EXPECT_EQ(first.back(), 2.0f);
    EXPECT_EQ(second.back(), ranks.rank() % 2 == 0 ? 2.0f : 4.0f);
    Work::all_of({all, both}).wait();
    EXPECT_EQ(of_all.back(), 4.0f);
    fake::destroy_stream(ranks.rank(), later);
  });
  EXPECT_EQ(fake::live_communicators(), 0);
}

// So many that the time after which messages go by themselves passes meanwhile.
TEST(NcclCommunicator, ManyBuffersAreOneGroupOfNccl) {
  constexpr std::size_t kBuffers = 20'000;
  fake::largest_group();
  World().run_good(2, [](Communicator& ranks) {
    std::vector<std::vector<float>> values(kBuffers, std::vector<float>(3, 1.0f));
    std::vector<Buffer> buffers;
    for (auto& each : values) buffers.push_back(device_buffer(each));
    ranks.all_reduce_each(buffers, ReduceOp::kSum).wait();
    for (const auto& each : values) EXPECT_EQ(each, std::vector<float>(3, 2.0f));
    std::vector<float> alone(1, 1.0f);
    ranks.all_reduce(device_buffer(alone), ReduceOp::kSum).wait();
    EXPECT_EQ(alone[0], 2.0f);
  });
  EXPECT_EQ(fake::largest_group(), kBuffers);
}

TEST(NcclCommunicator, AnOperationWaitsForTheStreamOfItsBufferAndAStreamForIt) {
  World().run_good(2, [](Communicator& ranks) {
    const int device = ranks.rank();
    void* compute = fake::make_stream(device);
    void* later = fake::make_stream(device);
    Gate gate;
    std::vector<float> values(100, 0.0f);
    float seen = 0;
    struct Look {
      std::vector<float>& values;
      float& seen;
    } look{values, seen};

    fake::enqueue(device, compute, Gate::pass, &gate);
    fake::enqueue(
        device, compute, [](void* data) { static_cast<std::vector<float>*>(data)->assign(100, 3.0f); },
        &values);
    Work work = ranks.all_reduce(device_buffer(values, compute), ReduceOp::kSum);
    work.wait_on(later);  // returns though nothing has run
    fake::enqueue(
        device, later,
        [](void* data) {
          auto* looking = static_cast<Look*>(data);
          looking->seen = looking->values[99];
        },
        &look);
    EXPECT_FALSE(work.is_done());
    gate.open();
    fake::synchronize(device, later);
    EXPECT_EQ(seen, 6.0f);
    work.wait();
    fake::destroy_stream(device, compute);
    fake::destroy_stream(device, later);
  });
}

TEST(NcclCommunicator, ManyOperationsInFlightEndInOrder) {
  World().run_good(2, [](Communicator& ranks) {
    std::vector<std::vector<float>> buffers(50, std::vector<float>(10, 1.0f));
    std::vector<Work> works;
    for (auto& buffer : buffers) works.push_back(ranks.all_reduce(device_buffer(buffer), ReduceOp::kSum));
    works.back().wait();
    for (Work& work : works) EXPECT_TRUE(work.is_done());
    for (const auto& buffer : buffers) EXPECT_EQ(buffer[0], 2.0f);
  });
}

TEST(NcclCommunicator, TwoRanksMaySendToEachOtherFirst) {
  World().run_good(2, [](Communicator& ranks) {
    std::vector<float> sent(5, static_cast<float>(ranks.rank())), received(5), more(5);
    const int peer = 1 - ranks.rank();
    Work sending = ranks.send(device_buffer(sent), peer);
    Work again = ranks.send(device_buffer(sent), peer);
    Work receiving = ranks.receive(device_buffer(received), peer);
    ranks.receive(device_buffer(more), peer).wait();
    receiving.wait();
    sending.wait();
    again.wait();
    EXPECT_EQ(received[4], static_cast<float>(peer));
    EXPECT_EQ(more[0], static_cast<float>(peer));
  });
}

// A send that started by itself after a while would hold up the receive behind it for ever.
TEST(NcclCommunicator, TheReceiveMayFollowTheSendsOfBothRanksLate) {
  World().run_good(2, [](Communicator& ranks) {
    std::vector<float> sent(5, static_cast<float>(ranks.rank())), received(5);
    const int peer = 1 - ranks.rank();
    Work sending = ranks.send(device_buffer(sent), peer);
    for (int i = 0; i < 300; ++i) ranks.barrier().wait();
    ranks.receive(device_buffer(received), peer).wait();
    sending.wait();
    EXPECT_EQ(received[4], static_cast<float>(peer));
  });
}

TEST(NcclCommunicator, AMessageThatNobodyWaitsForGoesAllTheSame) {
  std::promise<void> arrived;
  World().run_good(2, [&](Communicator& ranks) {
    std::vector<float> values(5, 4.0f);
    if (ranks.rank() == 0) {
      Work sending = ranks.send(device_buffer(values), 1);
      EXPECT_EQ(arrived.get_future().wait_for(kGenerous), std::future_status::ready);
      sending.wait();
    } else {
      ranks.receive(device_buffer(values), 0).wait();
      arrived.set_value();
    }
  });
}

// --- failures
// -------------------------------------------------------------------------------------------------

TEST(NcclCommunicator, ADeadlineBreaksItAndSaysWhatWasLate) {
  const auto [outcomes, limit] = run_to_deadline(2, [](Clock::duration timeout, std::atomic<int>& met) {
    std::promise<void> rank_0_gave_up;
    return World{.timeout = timeout}.run(2, [&](Communicator& ranks) {
      ++met;
      std::vector<float> values(10);
      if (ranks.rank() == 1) {
        rank_0_gave_up.get_future().wait_for(100 * timeout);
        return;
      }
      try {
        ranks.all_reduce(device_buffer(values), ReduceOp::kSum).wait();
        ADD_FAILURE() << "an all_reduce of one of two ranks";
      } catch (const Error& error) {
        EXPECT_THROW(ranks.broadcast(device_buffer(values), 0).wait(), Error) << "it stays broken";
        EXPECT_THROW(ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait(), Error)
            << "the host side too";
        rank_0_gave_up.set_value();
        throw;
      }
    });
  });
  EXPECT_EQ(outcomes[0].code, ErrorCode::kTimeout);
  EXPECT_THAT(outcomes[0].message, HasSubstr("rank 0 of 2: all_reduce #1 (fp32, 10 elements, sum)"));
  EXPECT_THAT(outcomes[0].message, HasSubstr("did not finish within " + limit));
  EXPECT_EQ(fake::live_communicators(), 0);
}

TEST(NcclCommunicator, AnAsynchronousErrorOfNcclReachesTheCaller) {
  std::promise<void> rank_1_failed;
  const auto outcomes = World().run(2, [&](Communicator& ranks) {
    std::vector<float> values(10);
    if (ranks.rank() == 0) {
      rank_1_failed.get_future().wait_for(kGenerous);
      return;
    }
    Work work = ranks.all_reduce(device_buffer(values), ReduceOp::kSum);
    fake::set_asynchronous_error(1, 6);
    try {
      work.wait();
      ADD_FAILURE() << "rank 0 did not come";
    } catch (const Error&) {
      fake::set_asynchronous_error(1, 0);
      rank_1_failed.set_value();
      throw;
    }
  });
  EXPECT_EQ(outcomes[1].code, ErrorCode::kPeerLost);
  EXPECT_THAT(outcomes[1].message, HasSubstr("remote process exited"));
  EXPECT_THAT(outcomes[1].message, HasSubstr("the fake's last words"));
}

TEST(NcclCommunicator, AbortFromAnotherThreadEndsTheWaiterAndThePeersAreTold) {
  const auto outcomes = World().run(2, [](Communicator& ranks) {
    std::vector<float> values(10);
    if (ranks.rank() == 0) {
      Work work = ranks.receive(device_buffer(values), 1);
      std::thread aborter([&] { ranks.abort("a test asked for it"); });
      aborter.join();
      work.wait();
    } else {
      ranks.receive(device_buffer(values), 0).wait();
    }
  });
  EXPECT_EQ(outcomes[0].code, ErrorCode::kAborted);
  EXPECT_THAT(outcomes[0].message, HasSubstr("a test asked for it"));
  EXPECT_EQ(outcomes[1].code, ErrorCode::kPeerLost);
  EXPECT_THAT(outcomes[1].message, HasSubstr("rank 0 gave up: aborted: a test asked for it"));
}

TEST(NcclCommunicator, AFailureOnTheHostEndsWhatIsOnTheGpu) {
  const auto outcomes = World().run(2, [](Communicator& ranks) {
    std::vector<float> values(10), host(10);
    if (ranks.rank() == 1) return;
    Work work = ranks.all_reduce(device_buffer(values), ReduceOp::kSum);
    EXPECT_THROW(ranks.all_reduce(buffer_of(host), ReduceOp::kSum).wait(), Error);
    work.wait();
  });
  EXPECT_EQ(outcomes[0].code, ErrorCode::kPeerLost);
  EXPECT_THAT(outcomes[0].message, HasSubstr("lost rank 1"));
  EXPECT_EQ(fake::live_communicators(), 0);
}

TEST(NcclCommunicator, DestructionWithOperationsInFlightFailsTheirWorks) {
  const World world;
  auto first = std::async(std::launch::async, [&] { return world.connect(0, 2, fake_options(0)); });
  const auto second = world.connect(1, 2, fake_options(1));
  std::vector<float> values(10);
  Work work;
  {
    const auto ranks = first.get();
    work = ranks->all_reduce(device_buffer(values), ReduceOp::kSum);
  }
  EXPECT_TRUE(work.is_done());
  EXPECT_THROW(work.wait(), Error);
  EXPECT_THROW(work.wait_on(nullptr), Error);
}

TEST(NcclCommunicator, WrongArgumentsAreRefused) {
  World().run_good(1, [](Communicator& ranks) {
    std::vector<float> three(3), two(2);
    EXPECT_THROW(ranks.all_reduce({nullptr, 4, DType::kFloat32, DeviceKind::kCuda}, ReduceOp::kSum), Error);
    EXPECT_THROW(ranks.all_gather(device_buffer(three), device_buffer(two)), Error);
    EXPECT_THROW(ranks.all_gather(device_buffer(two), buffer_of(two)), Error) << "of two devices";
    EXPECT_THROW(ranks.broadcast(device_buffer(two), 1), Error);
    EXPECT_THROW(ranks.send(device_buffer(two), 0), Error);
  });
}

// --- who may take part
// ----------------------------------------------------------------------------------------

std::vector<RankOutcome> try_to_connect(const std::vector<NcclOptions>& options) {
  const World world;
  const int size = static_cast<int>(options.size());
  std::vector<RankOutcome> outcomes(options.size());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto index = static_cast<std::size_t>(rank);
      try {
        world.connect(rank, size, options[index]);
      } catch (const Error& error) {
        outcomes[index] = {true, error.code(), error.what()};
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

void expect_unsupported(const std::vector<NcclOptions>& options, const std::string& why) {
  for (const RankOutcome& outcome : try_to_connect(options)) {
    EXPECT_EQ(outcome.code, ErrorCode::kUnsupported);
    EXPECT_THAT(outcome.message, HasSubstr(why));
  }
  EXPECT_EQ(fake::live_communicators(), 0);
}

TEST(NcclCommunicator, RanksThatShareAGpuAreToldSoOnAllOfThem) {
  expect_unsupported({fake_options(0), fake_options(3), fake_options(3)}, "ranks 1 and 2 share a GPU");
}

TEST(NcclCommunicator, WhatOneRankLacksIsSaidOnAllOfThem) {
  NcclOptions without_nccl = fake_options(1);
  without_nccl.nccl_library = "/nowhere/libnccl.so.2";
  expect_unsupported({fake_options(0), without_nccl}, "rank 1: NCCL was not found (/nowhere/libnccl.so.2");
  NcclOptions without_driver = fake_options(0);
  without_driver.driver_library = "/nowhere/libcuda.so.1";
  expect_unsupported({without_driver, fake_options(1)}, "rank 0: /nowhere/libcuda.so.1");
  expect_unsupported({fake_options(0), fake_options(8)},
                     "rank 1: there is no CUDA device 8: this process sees 8");
}

TEST(NcclCommunicator, AnOldNcclIsRefused) {
  fake::set_version(21000);
  expect_unsupported({fake_options(0), fake_options(1)}, "NCCL is version 21000, and 2.14");
  fake::set_version(0);
}

TEST(NcclCommunicator, JoiningEndsAtTheTimeout) {
  const auto device = std::make_shared<cuda::Device>(DEEPSCALE_FAKE_GPU, 0);
  const auto api = std::make_shared<nccl::Api>(DEEPSCALE_FAKE_GPU);
  nccl::UniqueId id;
  api->get_unique_id(&id);
  try {
    nccl::DeviceQueue queue(
        {.device = device, .api = api, .rank = 0, .size = 2, .id = id, .timeout = milliseconds(50)});
    FAIL() << "a communicator of two ranks with one";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTimeout);
    EXPECT_THAT(error.what(), HasSubstr("rank 0 of 2: joining the other ranks through NCCL 22809"));
  }
  EXPECT_EQ(fake::live_communicators(), 0);
}

// The backend that two ranks of one host get, or what rank 0 is told.
std::vector<std::string> backends_of_two_ranks(const std::string& backend, const NcclOptions& first,
                                               const NcclOptions& second) {
  const auto store = std::make_shared<MemoryStore>();
  std::vector<std::string> results(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      WorldLayout layout;
      layout.rank = layout.local_rank = rank;
      layout.world_size = layout.local_world_size = 2;
      std::string& result = results[static_cast<std::size_t>(rank)];
      try {
        const auto ranks = make_device_communicator(layout, store, {.timeout = kGenerous, .backend = backend},
                                                    rank == 0 ? first : second);
        result = ranks->backend();
        ranks->barrier().wait();
      } catch (const Error& error) {
        result = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

TEST(DeviceCommunicator, TakesNcclWhereEveryRankHasAGpuUnlessToldOtherwise) {
  using Both = std::vector<std::string>;
  EXPECT_EQ(backends_of_two_ranks("", fake_options(0), fake_options(1)), (Both{"nccl", "nccl"}));
  EXPECT_EQ(backends_of_two_ranks("nccl", fake_options(0), fake_options(1)), (Both{"nccl", "nccl"}));
  EXPECT_EQ(backends_of_two_ranks("tcp", fake_options(0), fake_options(1)), (Both{"tcp", "tcp"}));
  EXPECT_EQ(backends_of_two_ranks("", fake_options(2), fake_options(2)), (Both{"shm", "shm"}));
  for (const std::string& told : backends_of_two_ranks("nccl", fake_options(2), fake_options(2)))
    EXPECT_EQ(told, "ranks 0 and 1 share a GPU, which NCCL refuses");
}

TEST(DeviceCommunicator, ARankAloneNeedsNoNccl) {
  EXPECT_STREQ(make_device_communicator(WorldLayout(), nullptr, {}, fake_options(0))->backend(), "single");
  EXPECT_STREQ(
      make_device_communicator(WorldLayout(), nullptr, {.backend = "nccl"}, fake_options(0))->backend(),
      "nccl");
}

TEST(RankDevices, AnObstacleIsCutToFit) {
  const nccl::RankDeviceNote note = nccl::note_of({.obstacle = std::string(1000, 'x')});
  const auto obstacle = nccl::find_obstacle({note});
  ASSERT_TRUE(obstacle);
  EXPECT_EQ(*obstacle, "rank 0: " + std::string(239, 'x'));
}

}  // namespace
}  // namespace deepscale
