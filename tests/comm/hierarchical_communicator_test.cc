// Several hosts with several ranks each, as threads of the test: against tcp, and what make_communicator()
// takes for which layout.
#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "comm/base/half.h"
#include "comm/hierarchical/hierarchical_communicator.h"
#include "tests/comm/ranks.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using Bytes = std::vector<std::byte>;

constexpr auto kTimeout = std::chrono::seconds(60);
constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16,
                             DType::kInt32,   DType::kInt64,    DType::kUInt8};
constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kAverage, ReduceOp::kMax, ReduceOp::kMin};

WorldLayout layout_of(int rank, int hosts, int ranks_per_host) {
  WorldLayout layout;
  layout.rank = rank;
  layout.world_size = hosts * ranks_per_host;
  layout.local_rank = rank % ranks_per_host;
  layout.local_world_size = ranks_per_host;
  layout.node_rank = rank / ranks_per_host;
  layout.node_count = hosts;
  return layout;
}

// Every rank makes its communicator from its layout and runs `body`, which may throw.
std::vector<RankOutcome> run_layouts(const std::vector<WorldLayout>& layouts, CommunicatorOptions options,
                                     const RankBody& body) {
  const auto store = std::make_shared<MemoryStore>();
  options.listen_address = "127.0.0.1";
  std::vector<RankOutcome> outcomes(layouts.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < layouts.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        body(*make_communicator(layouts[rank], store, options));
      } catch (const Error& error) {
        outcomes[rank] = {true, error.code(), error.what()};
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

std::vector<WorldLayout> even_layouts(int hosts, int ranks_per_host) {
  std::vector<WorldLayout> layouts;
  for (int rank = 0; rank < hosts * ranks_per_host; ++rank) {
    layouts.push_back(layout_of(rank, hosts, ranks_per_host));
  }
  return layouts;
}

void expect_good(const std::vector<RankOutcome>& outcomes) {
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    EXPECT_FALSE(outcomes[rank].failed) << "rank " << rank << ": " << outcomes[rank].message;
  }
}

// Multiples of size * size, few and small: sums and averages of them are exact in every order and dtype.
Bytes exact_elements(std::mt19937& random, std::int64_t count, DType dtype, int size) {
  Bytes bytes(static_cast<std::size_t>(count) * size_of(dtype));
  for (std::int64_t i = 0; i < count; ++i) {
    const int value = (static_cast<int>(random() % 7) - 3) * size * size;
    std::byte* element = bytes.data() + static_cast<std::size_t>(i) * size_of(dtype);
    const auto put = [&](auto stored) { std::memcpy(element, &stored, sizeof stored); };
    switch (dtype) {
      case DType::kFloat32:
        put(static_cast<float>(value));
        break;
      case DType::kBFloat16:
        put(float_to_bf16(static_cast<float>(value)));
        break;
      case DType::kFloat16:
        put(float_to_fp16(static_cast<float>(value)));
        break;
      case DType::kInt32:
        put(value + 1);  // whole numbers must not be averaged twice
        break;
      case DType::kInt64:
        put(static_cast<std::int64_t>(value));
        break;
      case DType::kUInt8:
        put(static_cast<std::uint8_t>(value & 0xff));
        break;
    }
  }
  return bytes;
}

Buffer part(Bytes& bytes, std::int64_t offset, std::int64_t count, DType dtype) {
  return {bytes.data() + static_cast<std::size_t>(offset) * size_of(dtype), count, dtype};
}

// The same random operation by any communicator; what its buffers hold in the end.
Bytes run_case(Communicator& ranks, std::uint32_t seed, std::int64_t count) {
  std::mt19937 random(seed);
  const int size = ranks.size();
  const DType dtype = kDTypes[random() % std::size(kDTypes)];
  const ReduceOp op = kOps[random() % std::size(kOps)];
  const int root = static_cast<int>(random() % static_cast<std::uint32_t>(size));
  const bool in_place = random() % 2 == 0;
  const auto operation = random() % 6;
  std::mt19937 own_random(seed * 100 + static_cast<std::uint32_t>(ranks.rank()));
  Bytes first = exact_elements(own_random, count * size, dtype, size);
  Bytes second(first.size());
  const std::int64_t own = ranks.rank() * count;
  const Buffer whole = part(first, 0, count * size, dtype), other = part(second, 0, count * size, dtype);
  const Buffer slice = part(first, own, count, dtype);
  const auto start = [&]() -> Work {
    switch (operation) {
      case 0:
        return ranks.all_reduce(part(first, 0, std::max<std::int64_t>(count * size - 1, 0), dtype), op);
      case 1:
        return ranks.reduce_scatter(whole, in_place ? slice : part(second, 0, count, dtype), op);
      case 2:
        return ranks.all_gather(in_place ? slice : part(first, 0, count, dtype), in_place ? whole : other);
      case 3:
        return ranks.broadcast(whole, root);
      case 4:
        return ranks.all_to_all(whole, other);
      default:
        return ranks.barrier();
    }
  };
  start().wait();
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

class Hierarchies : public ::testing::TestWithParam<std::pair<int, int>> {};

INSTANTIATE_TEST_SUITE_P(Shapes, Hierarchies,
                         ::testing::Values(std::pair(2, 2), std::pair(2, 3), std::pair(3, 2), std::pair(4, 2),
                                           std::pair(2, 4)),
                         [](const auto& shape) {
                           return fmt::format("{}_hosts_of_{}", shape.param.first, shape.param.second);
                         });

TEST_P(Hierarchies, RandomOperationsEqualTcp) {
  const auto [hosts, ranks_per_host] = GetParam();
  const auto store = std::make_shared<MemoryStore>();
  expect_good(
      run_layouts(even_layouts(hosts, ranks_per_host), {.timeout = kTimeout}, [&](Communicator& ranks) {
        EXPECT_STREQ(ranks.backend(), "hierarchical");
        const auto tcp = make_tcp_communicator(ranks.rank(), ranks.size(), store, {.timeout = kTimeout});
        constexpr std::int64_t kCounts[] = {0, 1, 2, 3, 63, 64, 1025, 70'001};
        for (std::uint32_t seed = 0; seed < 60; ++seed) {
          const std::int64_t count = kCounts[seed % std::size(kCounts)];
          EXPECT_TRUE(run_case(ranks, seed, count) == run_case(*tcp, seed, count))
              << "seed " << seed << " rank " << ranks.rank() << " of " << ranks.size();
        }
      }));
}

// More than one piece, so that the network and the host work at the same time.
TEST(Hierarchy, ReducesLargeTensorsInPieces) {
  expect_good(run_layouts(even_layouts(2, 2), {.timeout = kTimeout}, [](Communicator& ranks) {
    std::vector<float> values(5'000'003);
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(i % 1000 + static_cast<std::size_t>(ranks.rank()));
    }
    ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(values[i], static_cast<float>(4 * (i % 1000) + 6)) << i;
    }
  }));
}

TEST(Hierarchy, ManyOperationsAndMessagesAreInFlightAtOnce) {
  expect_good(run_layouts(even_layouts(2, 2), {.timeout = kTimeout}, [](Communicator& ranks) {
    std::vector<std::vector<float>> buffers;
    for (int i = 0; i < 50; ++i) buffers.emplace_back(1 + i * 37 % 5000, static_cast<float>(i));
    std::vector<float> sent(1000, static_cast<float>(ranks.rank()));
    std::vector<std::vector<float>> received(4, std::vector<float>(1000));
    std::vector<Work> works;
    for (auto& buffer : buffers) works.push_back(ranks.all_reduce(buffer_of(buffer), ReduceOp::kSum));
    for (int peer = 0; peer < 4; ++peer) {  // of the same host and of the other one
      if (peer == ranks.rank()) continue;
      works.push_back(ranks.send(buffer_of(sent), peer));
      works.push_back(ranks.receive(buffer_of(received[peer]), peer));
    }
    works.push_back(ranks.barrier());
    std::reverse(works.begin(), works.end());
    for (Work& work : works) work.wait();
    for (std::size_t i = 0; i < buffers.size(); ++i)
      EXPECT_EQ(buffers[i].back(), 4.0f * static_cast<float>(i));
    for (int peer = 0; peer < 4; ++peer) {
      if (peer != ranks.rank()) {
        EXPECT_EQ(received[peer].back(), static_cast<float>(peer));
      }
    }
  }));
}

TEST(Hierarchy, SharedMemoryIsZeroAndTakenByCollectives) {
  expect_good(run_layouts(even_layouts(2, 2), {.timeout = kTimeout}, [](Communicator& ranks) {
    const auto memory = ranks.allocate_shared(400'000);
    auto* values = reinterpret_cast<float*>(memory.get());
    EXPECT_TRUE(std::all_of(values, values + 100'000, [](float value) { return value == 0.0f; }));
    std::fill(values, values + 100'000, 1.0f);
    ranks.all_reduce({values, 100'000}, ReduceOp::kSum).wait();
    EXPECT_TRUE(std::all_of(values, values + 100'000, [](float value) { return value == 4.0f; }));
  }));
}

TEST(Hierarchy, AGroupTakesWhatItsRanksAllow) {
  expect_good(run_layouts(even_layouts(2, 2), {.timeout = kTimeout}, [](Communicator& ranks) {
    const auto backend_of = [&](int color) {
      const auto group = ranks.split(color, 0);
      if (group == nullptr) return std::string("none");
      std::vector<float> value{1.0f};
      group->all_reduce(buffer_of(value), ReduceOp::kSum).wait();
      EXPECT_EQ(value[0], static_cast<float>(group->size()));
      return std::string(group->backend());
    };
    const int rank = ranks.rank();
    EXPECT_EQ(backend_of(rank / 2), "shm") << "the ranks of a host";
    EXPECT_EQ(backend_of(rank % 2), "tcp") << "a rank of each host";
    EXPECT_EQ(backend_of(0), "hierarchical") << "all";
    EXPECT_EQ(backend_of(rank == 3 ? -1 : 0), rank == 3 ? "none" : "tcp") << "two and one";
    EXPECT_EQ(backend_of(rank), "single");
  }));
}

TEST(Hierarchy, WhenOneRankAbortsAllFailWithTheCause) {
  const auto outcomes = run_layouts(even_layouts(2, 2), {.timeout = kTimeout}, [](Communicator& ranks) {
    std::vector<float> values(100'000);
    ranks.barrier().wait();
    if (ranks.rank() == 3) {
      ranks.abort("enough");
      ranks.barrier().wait();
    }
    for (;;) ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
  });
  EXPECT_EQ(outcomes[3].code, ErrorCode::kAborted);
  EXPECT_THAT(outcomes[3].message, HasSubstr("enough"));
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(outcomes[rank].code, ErrorCode::kPeerLost) << outcomes[rank].message;
    EXPECT_THAT(outcomes[rank].message, HasSubstr(fmt::format("rank {} of 4: ", rank)));
    EXPECT_THAT(outcomes[rank].message, HasSubstr("among the ranks"));
  }
}

TEST(Hierarchy, ADeadlineCoversAllStepsTogether) {
  const auto outcomes =
      run_layouts(even_layouts(2, 2), {.timeout = std::chrono::seconds(6)}, [](Communicator& ranks) {
        std::vector<float> values(10);
        ranks.barrier().wait();
        if (ranks.rank() == 0) {
          Work never_answered = ranks.receive(buffer_of(values), 1);
          EXPECT_THROW(never_answered.wait(), Error);
        } else {
          ranks.barrier().wait();
        }
      });
  for (int rank = 1; rank < 4; ++rank) {
    EXPECT_TRUE(outcomes[rank].code == ErrorCode::kTimeout || outcomes[rank].code == ErrorCode::kPeerLost)
        << outcomes[rank].message;
  }
}

TEST(Hierarchy, EndsWithOperationsInFlight) {
  std::vector<float> values(4 * 100'000);
  const auto outcomes = run_layouts(even_layouts(2, 2), {.timeout = kTimeout}, [&](Communicator& ranks) {
    const Buffer own{values.data() + ranks.rank() * 100'000, 100'000};
    ranks.barrier().wait();
    if (ranks.rank() > 0) ranks.all_reduce(own, ReduceOp::kSum);
  });
  expect_good(outcomes);
}

std::vector<std::string> backends_of(const std::vector<WorldLayout>& layouts) {
  std::vector<std::string> backends(layouts.size());
  expect_good(run_layouts(layouts, {.timeout = kTimeout}, [&](Communicator& ranks) {
    ranks.barrier().wait();
    backends[ranks.rank()] = ranks.backend();
  }));
  return backends;
}

TEST(Hierarchy, UnevenHostsTakeTcp) {
  // Two ranks on the first host, one on the second.
  std::vector<WorldLayout> uneven = {layout_of(0, 2, 2), layout_of(1, 2, 2), layout_of(2, 2, 2)};
  for (WorldLayout& layout : uneven) layout.world_size = 3;
  uneven[2].local_world_size = 1;
  EXPECT_EQ(backends_of(uneven), std::vector<std::string>(3, "tcp"));
  // Dealt out like cards.
  std::vector<WorldLayout> dealt = even_layouts(2, 2);
  for (int rank = 0; rank < 4; ++rank) {
    dealt[rank].node_rank = rank % 2;
    dealt[rank].local_rank = rank / 2;
  }
  EXPECT_EQ(backends_of(dealt), std::vector<std::string>(4, "tcp"));
  EXPECT_EQ(backends_of(even_layouts(3, 1)), std::vector<std::string>(3, "tcp"));
}

TEST(Hierarchy, AForcedBackendSaysWhyItIsNotPossible) {
  const auto outcomes = run_layouts(even_layouts(1, 2), {.timeout = kTimeout, .backend = "hierarchical"},
                                    [](Communicator&) { ADD_FAILURE() << "there is one host"; });
  for (const RankOutcome& outcome : outcomes) {
    EXPECT_EQ(outcome.code, ErrorCode::kUnsupported);
    EXPECT_THAT(outcome.message, HasSubstr("on node 0 of 1, which is no hierarchy of equal hosts"));
  }
}

}  // namespace
}  // namespace deepscale
