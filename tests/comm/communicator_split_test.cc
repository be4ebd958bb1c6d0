// Smaller communicators out of larger ones, and many buffers in one operation.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/comm/ranks.h"

namespace deepscale {
namespace {

struct Wish {
  int color;
  int key;
};

// The ranks of one color in the order that MPI_Comm_split gives them.
std::vector<int> expected_members(const std::vector<Wish>& wishes, int color) {
  std::vector<std::tuple<int, int>> members;
  for (int rank = 0; rank < static_cast<int>(wishes.size()); ++rank) {
    if (wishes[rank].color == color) members.emplace_back(wishes[rank].key, rank);
  }
  std::sort(members.begin(), members.end());
  std::vector<int> ranks;
  for (const auto& member : members) ranks.push_back(std::get<1>(member));
  return ranks;
}

// Which ranks of the parent are in `ranks`, by what they say themselves.
std::vector<int> members_of(Communicator& ranks, int rank_in_parent) {
  std::vector<std::int32_t> own{rank_in_parent}, all(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(buffer_of(own, DType::kInt32), buffer_of(all, DType::kInt32)).wait();
  return {all.begin(), all.end()};
}

void expect_sum_of_members(Communicator& ranks, const std::vector<int>& members, int rank_in_parent) {
  std::vector<float> values(20'000, static_cast<float>(rank_in_parent));
  ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
  const auto sum = static_cast<float>(std::accumulate(members.begin(), members.end(), 0));
  EXPECT_EQ(values, std::vector<float>(values.size(), sum));
}

class Splits : public EveryBackend {};
DEEPSCALE_FOR_EVERY_BACKEND(Splits);

TEST_P(Splits, GroupsAreThoseOfMpi) {
  for (const int size : {1, 2, 3, 6}) {
    run_good_ranks(GetParam(), size, [&](Communicator& ranks) {
      std::mt19937 random(static_cast<std::uint32_t>(size));
      for (int round = 0; round < 6; ++round) {
        std::vector<Wish> wishes;
        for (int rank = 0; rank < size; ++rank) {
          wishes.push_back({static_cast<int>(random() % 3) - 1, static_cast<int>(random() % 5) - 2});
        }
        const Wish own = wishes[ranks.rank()];
        const auto group = ranks.split(own.color, own.key);
        EXPECT_EQ(group == nullptr, own.color < 0);
        if (group == nullptr) continue;
        const std::vector<int> members = expected_members(wishes, own.color);
        ASSERT_EQ(group->size(), static_cast<int>(members.size()));
        EXPECT_EQ(members[group->rank()], ranks.rank());
        EXPECT_STREQ(group->backend(), ranks.backend());
        EXPECT_EQ(members_of(*group, ranks.rank()), members);
        expect_sum_of_members(*group, members, ranks.rank());
      }
    });
  }
}

// Rows and columns of a grid, operations of all three in flight at once, and a split of a split.
TEST_P(Splits, AllCommunicatorsWorkAtTheSameTime) {
  run_good_ranks(GetParam(), 6, [](Communicator& ranks) {
    const int row = ranks.rank() / 3, column = ranks.rank() % 3;
    const auto in_row = ranks.split(row, 0);
    const auto in_column = ranks.split(column, -row);
    const auto pair = in_row->split(column == 2 ? -1 : 0, 0);
    EXPECT_EQ(in_column->rank(), 1 - row) << "the smaller key comes first";
    std::vector<float> of_all(30'000, 1.0f), of_row(30'001, 1.0f), of_column(7, 1.0f), of_pair(5'000, 1.0f);
    std::vector<Work> works;
    const auto start = [&](Communicator& communicator, std::vector<float>& values) {
      works.push_back(communicator.all_reduce(buffer_of(values), ReduceOp::kSum));
    };
    // Not in the same order on all ranks: only within a communicator the order counts.
    if (row == 0) start(ranks, of_all);
    start(*in_column, of_column);
    if (pair != nullptr) start(*pair, of_pair);
    start(*in_row, of_row);
    if (row == 1) start(ranks, of_all);
    Work::all_of(works).wait();
    EXPECT_EQ(of_all.back(), 6.0f);
    EXPECT_EQ(of_row.back(), 3.0f);
    EXPECT_EQ(of_column.back(), 2.0f);
    EXPECT_EQ(of_pair.back(), pair == nullptr ? 1.0f : 2.0f);
  });
}

TEST_P(Splits, AGroupOutlivesItsParent) {
  const auto store = std::make_shared<MemoryStore>();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 4; ++rank) {
    threads.emplace_back([&, rank] {
      auto parent = make_backend(GetParam(), rank, 4, store, {.timeout = std::chrono::seconds(60)});
      const auto group = parent->split(rank % 2, rank);
      parent->barrier().wait();
      parent.reset();
      EXPECT_EQ(members_of(*group, rank), (std::vector<int>{rank % 2, rank % 2 + 2}));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(Splits, ABrokenCommunicatorIsNotSplit) {
  const auto outcomes = run_ranks(GetParam(), 2, std::chrono::seconds(60), [](Communicator& ranks) {
    ranks.barrier().wait();
    ranks.abort("enough");
    ranks.split(0, 0);
  });
  for (const RankOutcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.failed);
    EXPECT_TRUE(outcome.code == ErrorCode::kAborted || outcome.code == ErrorCode::kPeerLost)
        << outcome.message;
  }
}

class ManyBuffers : public EveryBackend {};
DEEPSCALE_FOR_EVERY_BACKEND(ManyBuffers);

TEST_P(ManyBuffers, EqualOneOperationAfterTheOther) {
  run_good_ranks(GetParam(), 3, [](Communicator& ranks) {
    std::vector<std::vector<float>> reduced, inputs, slices, gathered;
    for (const std::size_t count : {0, 1, 5, 1000, 70'001}) {
      const auto value = static_cast<float>(count % 100 + static_cast<std::size_t>(ranks.rank()));
      reduced.emplace_back(count, value);
      inputs.emplace_back(3 * count, value);
      slices.emplace_back(count);
      gathered.emplace_back(3 * count);
    }
    std::vector<Buffer> buffers;
    std::vector<InputOutput> scatters, gathers;
    for (std::size_t i = 0; i < reduced.size(); ++i) {
      buffers.push_back(buffer_of(reduced[i]));
      scatters.push_back({buffer_of(inputs[i]), buffer_of(slices[i])});
    }
    const Work all_reduces = ranks.all_reduce_each(buffers, ReduceOp::kSum);
    const Work reduce_scatters = ranks.reduce_scatter_each(scatters, ReduceOp::kSum);
    Work::all_of({all_reduces, reduce_scatters}).wait();
    EXPECT_TRUE(all_reduces.is_done());
    for (std::size_t i = 0; i < slices.size(); ++i) {
      EXPECT_EQ(slices[i], reduced[i]) << "both are the sum of the same values";
      gathers.push_back({buffer_of(slices[i]), buffer_of(gathered[i])});
    }
    ranks.all_gather_each(gathers).wait();
    for (std::size_t i = 0; i < gathered.size(); ++i) {
      const float sum = static_cast<float>(reduced[i].size() % 100) * 3 + 3;
      EXPECT_EQ(gathered[i], std::vector<float>(gathered[i].size(), sum));
    }
  });
}

TEST_P(ManyBuffers, NoneStartsWhenOneIsWrong) {
  run_good_ranks(GetParam(), 2, [](Communicator& ranks) {
    std::vector<float> good(4, 1.0f);
    const std::vector<Buffer> buffers{buffer_of(good), {.data = nullptr, .count = 3}};
    EXPECT_THROW(ranks.all_reduce_each(buffers, ReduceOp::kSum), Error);
    ranks.barrier().wait();
    EXPECT_EQ(good, std::vector<float>(4, 1.0f));
  });
}

TEST(WorkOfMany, WaitsForAllAndThrowsTheFirstFailure) {
  struct Failing final : Work::State {
    explicit Failing(std::string text) : message(std::move(text)) {}
    bool is_done() const override { return waited; }
    void wait() override {
      waited = true;
      throw Error(ErrorCode::kAborted, message);
    }
    std::string message;
    bool waited = false;
  };
  const auto first = std::make_shared<Failing>("first"), second = std::make_shared<Failing>("second");
  Work work = Work::all_of({Work(), Work(first), Work(second)});
  EXPECT_FALSE(work.is_done());
  try {
    work.wait();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "first");
  }
  EXPECT_TRUE(second->waited && work.is_done());
  EXPECT_TRUE(Work::all_of({}).is_done());
}

TEST(SingleCommunicator, SplitsIntoItselfOrNothing) {
  const auto single = make_single_communicator();
  EXPECT_STREQ(single->split(0, 7)->backend(), "single");
  EXPECT_EQ(single->split(-1, 0), nullptr);
  single->abort("enough");
  EXPECT_THROW(single->split(0, 0), Error);
}

}  // namespace
}  // namespace deepscale
