// What the operations compute, against a trivially correct reference, with ranks as threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>

#include "comm/base/half.h"
#include "tests/comm/ranks.h"

namespace deepscale {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16,
                             DType::kInt32,   DType::kInt64,    DType::kUInt8};
constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kAverage, ReduceOp::kMax, ReduceOp::kMin};

using Bytes = std::vector<std::byte>;

Bytes random_elements(std::mt19937& random, std::int64_t count, DType dtype) {
  Bytes bytes(static_cast<std::size_t>(count) * size_of(dtype));
  for (std::int64_t i = 0; i < count; ++i) {
    const auto whole = static_cast<std::int64_t>(random() % 2000) - 1000;
    const float real = static_cast<float>(whole) * 0.37f;
    std::byte* element = bytes.data() + static_cast<std::size_t>(i) * size_of(dtype);
    const auto put = [&](auto value) { std::memcpy(element, &value, sizeof value); };
    switch (dtype) {
      case DType::kFloat32:
        put(real);
        break;
      case DType::kBFloat16:
        put(float_to_bf16(real));
        break;
      case DType::kFloat16:
        put(float_to_fp16(real));
        break;
      case DType::kInt32:
        put(static_cast<std::int32_t>(whole));
        break;
      case DType::kInt64:
        put(whole << 40);
        break;
      case DType::kUInt8:
        put(static_cast<std::uint8_t>(whole));
        break;
    }
  }
  return bytes;
}

template <typename Stored>
Stored element_of(const Bytes& bytes, std::int64_t index) {
  Stored value;
  std::memcpy(&value, bytes.data() + static_cast<std::size_t>(index) * sizeof(Stored), sizeof value);
  return value;
}

template <typename Wide>
Wide reduce_two(Wide left, Wide right, ReduceOp op) {
  if (op == ReduceOp::kMax) return std::max(left, right);
  if (op == ReduceOp::kMin) return std::min(left, right);
  return left + right;
}

// One element after the other, one rank after the other.
template <typename Stored, typename Wide, typename Load, typename Store>
Bytes expected_with(const std::vector<Bytes>& inputs, ReduceOp op, Load load, Store store) {
  Bytes result(inputs[0].size());
  for (std::size_t i = 0; i < result.size() / sizeof(Stored); ++i) {
    Wide value = load(element_of<Stored>(inputs[0], i));
    for (std::size_t rank = 1; rank < inputs.size(); ++rank) {
      value = reduce_two<Wide>(value, load(element_of<Stored>(inputs[rank], i)), op);
    }
    if (op == ReduceOp::kAverage) value /= static_cast<Wide>(inputs.size());
    const auto stored = static_cast<Stored>(store(value));
    std::memcpy(result.data() + i * sizeof(Stored), &stored, sizeof stored);
  }
  return result;
}

Bytes expected_reduction(const std::vector<Bytes>& inputs, DType dtype, ReduceOp op) {
  const auto same = [](auto value) { return value; };
  switch (dtype) {
    case DType::kFloat32:
      return expected_with<float, float>(inputs, op, same, same);
    case DType::kBFloat16:
      return expected_with<std::uint16_t, float>(inputs, op, bf16_to_float, float_to_bf16);
    case DType::kFloat16:
      return expected_with<std::uint16_t, float>(inputs, op, fp16_to_float, float_to_fp16);
    case DType::kInt32:
      return expected_with<std::int32_t, std::int64_t>(inputs, op, same, same);
    case DType::kInt64:
      return expected_with<std::int64_t, std::int64_t>(inputs, op, same, same);
    case DType::kUInt8:
      return expected_with<std::uint8_t, std::int64_t>(inputs, op, same, same);
  }
  return {};
}

Bytes slice(const Bytes& bytes, int index, std::size_t length) {
  const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(index) * length);
  return Bytes(begin, begin + static_cast<std::ptrdiff_t>(length));
}

Buffer as_buffer(Bytes& bytes, DType dtype) {
  return {bytes.data(), static_cast<std::int64_t>(bytes.size() / size_of(dtype)), dtype};
}

// A case of the property test: every rank draws the same one from the same seed.
struct Case {
  DType dtype;
  ReduceOp op;
  std::int64_t count;
  bool in_place;
  int root;
  std::vector<Bytes> inputs;  // of every rank, size() * count elements

  Case(std::uint32_t seed, int size,
       std::vector<std::int64_t> counts = {0, 1, 2, 3, 7, 64, 1023, 1025, 4099}) {
    std::mt19937 random(seed);
    dtype = kDTypes[random() % std::size(kDTypes)];
    op = kOps[random() % std::size(kOps)];
    count = counts[random() % counts.size()];
    in_place = random() % 2 == 0;
    root = static_cast<int>(random() % size);
    for (int rank = 0; rank < size; ++rank) inputs.push_back(random_elements(random, count * size, dtype));
  }
  std::size_t slice_bytes() const { return static_cast<std::size_t>(count) * size_of(dtype); }
};

void check_all_reduce(Communicator& ranks, const Case& drawn) {
  // An odd count, which does not divide evenly.
  Bytes buffer = drawn.inputs[ranks.rank()];
  const std::size_t cut = std::min(buffer.size(), size_of(drawn.dtype));
  buffer.resize(buffer.size() - cut);
  Bytes expected = expected_reduction(drawn.inputs, drawn.dtype, drawn.op);
  expected.resize(buffer.size());
  ranks.all_reduce(as_buffer(buffer, drawn.dtype), drawn.op).wait();
  EXPECT_EQ(buffer, expected);
}

void check_reduce_scatter(Communicator& ranks, const Case& drawn) {
  Bytes input = drawn.inputs[ranks.rank()];
  Bytes expected_input = input;
  Bytes separate(drawn.slice_bytes());
  const std::size_t own_offset = drawn.slice_bytes() * static_cast<std::size_t>(ranks.rank());
  const Bytes expected =
      slice(expected_reduction(drawn.inputs, drawn.dtype, drawn.op), ranks.rank(), drawn.slice_bytes());
  Buffer output = as_buffer(separate, drawn.dtype);
  if (drawn.in_place) {
    output.data = input.data() + own_offset;
    std::copy(expected.begin(), expected.end(),
              expected_input.begin() + static_cast<std::ptrdiff_t>(own_offset));
  }
  ranks.reduce_scatter(as_buffer(input, drawn.dtype), output, drawn.op).wait();
  EXPECT_EQ(input, expected_input);
  if (!drawn.in_place) {
    EXPECT_EQ(separate, expected);
  }
}

void check_all_gather(Communicator& ranks, const Case& drawn) {
  Bytes expected;
  for (const Bytes& input : drawn.inputs)
    expected.insert(expected.end(), input.begin(),
                    input.begin() + static_cast<std::ptrdiff_t>(drawn.slice_bytes()));
  Bytes own = slice(drawn.inputs[ranks.rank()], 0, drawn.slice_bytes());
  Bytes output(expected.size());
  Buffer input = as_buffer(own, drawn.dtype);
  if (drawn.in_place) {
    input.data = output.data() + drawn.slice_bytes() * static_cast<std::size_t>(ranks.rank());
    std::copy(own.begin(), own.end(), static_cast<std::byte*>(input.data));
  }
  ranks.all_gather(input, as_buffer(output, drawn.dtype)).wait();
  EXPECT_EQ(output, expected);
}

void check_broadcast(Communicator& ranks, const Case& drawn) {
  Bytes buffer = drawn.inputs[ranks.rank()];
  ranks.broadcast(as_buffer(buffer, drawn.dtype), drawn.root).wait();
  EXPECT_EQ(buffer, drawn.inputs[drawn.root]);
}

void check_all_to_all(Communicator& ranks, const Case& drawn) {
  Bytes input = drawn.inputs[ranks.rank()];
  Bytes output(input.size()), expected;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    const Bytes part = slice(drawn.inputs[rank], ranks.rank(), drawn.slice_bytes());
    expected.insert(expected.end(), part.begin(), part.end());
  }
  ranks.all_to_all(as_buffer(input, drawn.dtype), as_buffer(output, drawn.dtype)).wait();
  EXPECT_EQ(output, expected);
}

void check_ring(Communicator& ranks, const Case& drawn) {
  if (ranks.size() == 1) return;
  const int next = (ranks.rank() + 1) % ranks.size();
  const int previous = (ranks.rank() + ranks.size() - 1) % ranks.size();
  Bytes sent = drawn.inputs[ranks.rank()];
  Bytes received(sent.size());
  Work sending = ranks.send(as_buffer(sent, drawn.dtype), next);
  ranks.receive(as_buffer(received, drawn.dtype), previous).wait();
  sending.wait();
  EXPECT_EQ(received, drawn.inputs[previous]);
}

void check_all(Communicator& ranks, const Case& drawn) {
  check_all_reduce(ranks, drawn);
  check_reduce_scatter(ranks, drawn);
  check_all_gather(ranks, drawn);
  check_broadcast(ranks, drawn);
  check_all_to_all(ranks, drawn);
  check_ring(ranks, drawn);
  ranks.barrier().wait();
}

class CommunicatorProperties : public ::testing::TestWithParam<std::tuple<std::string, int>> {};

TEST_P(CommunicatorProperties, RandomOperationsEqualTheReference) {
  run_good_ranks(std::get<0>(GetParam()), std::get<1>(GetParam()), [](Communicator& ranks) {
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
      SCOPED_TRACE(fmt::format("seed {} rank {} of {}", seed, ranks.rank(), ranks.size()));
      check_all(ranks, Case(seed * 100 + static_cast<std::uint32_t>(ranks.size()), ranks.size()));
    }
  });
}

// Beyond what any backend sends at once, and not a multiple of it.
TEST_P(CommunicatorProperties, LargeOperationsEqualTheReference) {
  run_good_ranks(std::get<0>(GetParam()), std::get<1>(GetParam()), [](Communicator& ranks) {
    for (std::uint32_t seed = 0; seed < 3; ++seed) {
      SCOPED_TRACE(fmt::format("seed {} rank {} of {}", seed, ranks.rank(), ranks.size()));
      check_all(ranks, Case(seed, ranks.size(), {70'001}));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Worlds, CommunicatorProperties,
                         ::testing::Combine(::testing::Values(DEEPSCALE_TEST_BACKENDS),
                                            ::testing::Range(1, 9)),
                         [](const auto& world) {
                           return fmt::format("{}_{}", std::get<0>(world.param), std::get<1>(world.param));
                         });

class Communicators : public EveryBackend {};
DEEPSCALE_FOR_EVERY_BACKEND(Communicators);

TEST_P(Communicators, EveryDTypeAndReductionEqualsTheReference) {
  run_good_ranks(GetParam(), 3, [](Communicator& ranks) {
    for (const DType dtype : kDTypes) {
      for (const ReduceOp op : kOps) {
        SCOPED_TRACE(fmt::format("{} reduction {}", dtype_name(dtype), static_cast<int>(op)));
        std::mt19937 random(11);
        std::vector<Bytes> inputs;
        for (int rank = 0; rank < ranks.size(); ++rank)
          inputs.push_back(random_elements(random, 1500, dtype));
        Bytes buffer = inputs[ranks.rank()];
        ranks.all_reduce(as_buffer(buffer, dtype), op).wait();
        EXPECT_EQ(buffer, expected_reduction(inputs, dtype, op));
      }
    }
  });
}

// Larger than rings, chunks and socket buffers together, and no multiple of any of them.
TEST_P(Communicators, ReducesAndGathersTensorsOfManyChunks) {
  run_good_ranks(GetParam(), 3, [](Communicator& ranks) {
    std::vector<float> values(4'000'003);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>((i * 7 + static_cast<std::size_t>(ranks.rank()) * 13) % 1000);
    std::vector<float> expected(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      for (std::size_t rank = 0; rank < 3; ++rank)
        expected[i] += static_cast<float>((i * 7 + rank * 13) % 1000);
    }
    ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
    EXPECT_TRUE(values == expected);
  });
}

TEST_P(Communicators, NotANumberReachesEveryRankThroughMaxAndMin) {
  run_good_ranks(GetParam(), 2, [](Communicator& ranks) {
    for (const ReduceOp op : {ReduceOp::kMax, ReduceOp::kMin, ReduceOp::kSum}) {
      std::vector<float> values{1.0f, 2.0f};
      values[ranks.rank()] = std::numeric_limits<float>::quiet_NaN();
      ranks.all_reduce(buffer_of(values), op).wait();
      EXPECT_TRUE(values[0] != values[0] && values[1] != values[1]);
    }
  });
}

TEST_P(Communicators, IntegerAverageTruncatesTowardZeroAndDoesNotOverflow) {
  run_good_ranks(GetParam(), 2, [](Communicator& ranks) {
    std::vector<std::int32_t> signs{ranks.rank() == 0 ? -3 : 0, ranks.rank() == 0 ? 3 : 0};
    std::vector<std::uint8_t> large{static_cast<std::uint8_t>(ranks.rank() == 0 ? 255 : 250)};
    ranks.all_reduce(buffer_of(signs, DType::kInt32), ReduceOp::kAverage).wait();
    ranks.all_reduce(buffer_of(large, DType::kUInt8), ReduceOp::kAverage).wait();
    EXPECT_EQ(signs, (std::vector<std::int32_t>{-1, 1}));
    EXPECT_EQ(large[0], 252);
  });
}

TEST_P(Communicators, ManyOperationsInFlightEndInAnyOrderOfWaiting) {
  run_good_ranks(GetParam(), 4, [](Communicator& ranks) {
    constexpr int kOperations = 200;
    std::vector<std::vector<float>> buffers;
    std::vector<Work> works;
    for (int i = 0; i < kOperations; ++i) buffers.emplace_back(1 + i * 37 % 5000, static_cast<float>(i));
    for (auto& buffer : buffers) works.push_back(ranks.all_reduce(buffer_of(buffer), ReduceOp::kSum));
    works.push_back(ranks.barrier());
    for (auto work = works.rbegin(); work != works.rend(); ++work) work->wait();
    for (int i = 0; i < kOperations; ++i)
      EXPECT_EQ(buffers[i], std::vector<float>(buffers[i].size(), 4.0f * static_cast<float>(i)));
    for (const Work& work : works) EXPECT_TRUE(work.is_done());
  });
}

// Both send first; with buffers far beyond what sockets hold this needs sends and receives that do not wait
// for each other.
TEST_P(Communicators, TwoRanksMaySendLargeBuffersToEachOtherAtOnce) {
  run_good_ranks(GetParam(), 2, [](Communicator& ranks) {
    std::vector<float> sent(8'000'000, static_cast<float>(ranks.rank())), received(sent.size());
    Work sending = ranks.send(buffer_of(sent), 1 - ranks.rank());
    Work receiving = ranks.receive(buffer_of(received), 1 - ranks.rank());
    receiving.wait();
    sending.wait();
    EXPECT_EQ(received.back(), static_cast<float>(1 - ranks.rank()));
  });
}

TEST_P(Communicators, AReceiveDoesNotWaitForAnUnrelatedPeer) {
  run_good_ranks(GetParam(), 3, [](Communicator& ranks) {
    std::vector<float> value(1), other(1);
    if (ranks.rank() == 0) {
      Work late = ranks.receive(buffer_of(other), 2);
      ranks.receive(buffer_of(value), 1).wait();
      EXPECT_FALSE(late.is_done());
      ranks.send(buffer_of(value), 2).wait();  // only now rank 2 sends
      late.wait();
    } else if (ranks.rank() == 1) {
      ranks.send(buffer_of(value), 0).wait();
    } else {
      ranks.receive(buffer_of(value), 0).wait();
      ranks.send(buffer_of(other), 0).wait();
    }
  });
}

TEST_P(Communicators, MessagesOfAPairArriveInTheirOrder) {
  run_good_ranks(GetParam(), 2, [](Communicator& ranks) {
    std::vector<std::vector<float>> buffers;
    std::vector<Work> works;
    for (int i = 0; i < 50; ++i) buffers.push_back({ranks.rank() == 0 ? static_cast<float>(i) : -1.0f});
    for (auto& buffer : buffers) {
      works.push_back(ranks.rank() == 0 ? ranks.send(buffer_of(buffer), 1)
                                        : ranks.receive(buffer_of(buffer), 0));
    }
    for (Work& work : works) work.wait();
    for (int i = 0; i < 50; ++i) EXPECT_EQ(buffers[i][0], static_cast<float>(i));
  });
}

TEST_P(Communicators, TwoCommunicatorsOfTheSameRanksDoNotMix) {
  const auto store = std::make_shared<MemoryStore>();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const auto first = make_backend(GetParam(), rank, 2, store, {.name = "first"});
      const auto second = make_backend(GetParam(), rank, 2, store, {.name = "second"});
      std::vector<float> ones(100'000, 1.0f), twos(1000, 2.0f);
      // Each rank begins with another one of the two.
      Communicator& early = rank == 0 ? *first : *second;
      Communicator& late = rank == 0 ? *second : *first;
      Work early_work = early.all_reduce(buffer_of(rank == 0 ? ones : twos), ReduceOp::kSum);
      Work late_work = late.all_reduce(buffer_of(rank == 0 ? twos : ones), ReduceOp::kSum);
      late_work.wait();
      early_work.wait();
      EXPECT_EQ(ones.back(), 2.0f);
      EXPECT_EQ(twos.back(), 4.0f);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(SingleCommunicator, CopiesOrDoesNothing) {
  const auto single = make_single_communicator();
  std::vector<float> values{1, 2, 3}, output(3);
  EXPECT_STREQ(single->backend(), "single");
  single->all_reduce(buffer_of(values), ReduceOp::kAverage).wait();
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3}));
  single->reduce_scatter(buffer_of(values), buffer_of(output), ReduceOp::kMax).wait();
  EXPECT_EQ(output, values);
  single->all_gather(buffer_of(values), buffer_of(values)).wait();
  single->broadcast(buffer_of(values), 0).wait();
  single->barrier().wait();
  EXPECT_THROW(single->send(buffer_of(values), 0), Error);
  EXPECT_THROW(single->broadcast(buffer_of(values), 1), Error);
  single->abort("enough");
  EXPECT_THROW(single->barrier().wait(), Error);
}

TEST(MakeCommunicator, ChoosesByTheWorldAndRefusesWhatCannotBe) {
  const WorldLayout alone;
  EXPECT_STREQ(make_communicator(alone, nullptr, {})->backend(), "single");
  EXPECT_STREQ(make_communicator(alone, nullptr, {.backend = "tcp"})->backend(), "tcp");
  EXPECT_STREQ(make_communicator(alone, nullptr, {.backend = "gloo"})->backend(), "gloo");
  WorldLayout pair;
  pair.world_size = 2;
  const auto message_of = [](const WorldLayout& layout, const std::string& backend) -> std::string {
    try {
      make_communicator(layout, nullptr, {.backend = backend});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message_of(pair, "single").find("this job has 2"), std::string::npos);
  EXPECT_NE(message_of(pair, "nccl").find("is for CUDA buffers"), std::string::npos);
  EXPECT_NE(message_of(pair, "mpi").find("known are single, shm, hierarchical, tcp, gloo"),
            std::string::npos);
  EXPECT_NE(message_of(pair, "").find("needs a store"), std::string::npos);
}

}  // namespace
}  // namespace deepscale
