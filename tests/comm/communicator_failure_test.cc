// What happens when something goes wrong: everybody gets an error, soon, that says what it was.
#include <gmock/gmock.h>

#include <future>

#include "tests/comm/ranks.h"

namespace deepscale {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr auto kGenerous = seconds(30);

class CommunicatorFailure : public EveryBackend {};
DEEPSCALE_FOR_EVERY_BACKEND(CommunicatorFailure);

TEST_P(CommunicatorFailure, DifferentCountsAreAnErrorOnBothSidesThatNamesBoth) {
  const auto outcomes = run_ranks(GetParam(), 2, kGenerous, [](Communicator& ranks) {
    std::vector<float> values(ranks.rank() == 0 ? 100 : 300'000);
    ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
  });
  for (const RankOutcome& outcome : outcomes) {
    EXPECT_EQ(outcome.code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(outcome.message, HasSubstr("all_reduce #1 (fp32, 100 elements, sum)"));
    EXPECT_THAT(outcome.message, HasSubstr("all_reduce #1 (fp32, 300000 elements, sum)"));
  }
}

TEST_P(CommunicatorFailure, DifferentOperationsAreAnError) {
  const auto outcomes = run_ranks(GetParam(), 2, kGenerous, [](Communicator& ranks) {
    std::vector<float> values(1);
    if (ranks.rank() == 0) ranks.barrier().wait();
    ranks.broadcast(buffer_of(values), 0).wait();
    ranks.barrier().wait();
  });
  // Whoever sees it first tells the other.
  EXPECT_TRUE(outcomes[0].code == ErrorCode::kInvalidArgument ||
              outcomes[1].code == ErrorCode::kInvalidArgument);
  for (const RankOutcome& outcome : outcomes) {
    EXPECT_THAT(outcome.message, HasSubstr("rank 1 is in broadcast #1 (fp32, 1 elements, root 0)"));
    EXPECT_THAT(outcome.message, HasSubstr("rank 0 is in barrier #1"));
  }
}

TEST_P(CommunicatorFailure, ADeadlineBreaksTheCommunicatorAndNamesTheLateRank) {
  const auto [outcomes, limit] = run_to_deadline(3, [](Clock::duration timeout, std::atomic<int>& met) {
    std::promise<void> rank_0_gave_up;
    return run_ranks(GetParam(), 3, timeout, [&](Communicator& ranks) {
      ++met;
      if (ranks.rank() == 2) {
        rank_0_gave_up.get_future().wait_for(100 * timeout);
        return;
      }
      std::vector<float> values(10);
      try {
        ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
      } catch (const Error&) {
        if (ranks.rank() == 0) rank_0_gave_up.set_value();
        EXPECT_THROW(ranks.barrier().wait(), Error) << "a broken communicator stays broken";
        throw;
      }
    });
  });
  // The other one may run into its deadline, or see rank 0 leave.
  EXPECT_TRUE(outcomes[0].failed && outcomes[1].failed && !outcomes[2].failed);
  const RankOutcome& first = outcomes[0].code == ErrorCode::kTimeout ? outcomes[0] : outcomes[1];
  EXPECT_EQ(first.code, ErrorCode::kTimeout);
  EXPECT_THAT(first.message, HasSubstr("did not finish within " + limit + "; it waits for rank"));
  EXPECT_THAT(first.message, HasSubstr("2"));
}

TEST_P(CommunicatorFailure, AbortFromAnotherThreadWakesTheWaiterAndThePeers) {
  const auto outcomes = run_ranks(GetParam(), 2, kGenerous, [](Communicator& ranks) {
    std::vector<float> values(10);
    std::thread aborter;
    if (ranks.rank() == 0) {
      Work work = ranks.receive(buffer_of(values), 1);
      aborter = std::thread([&] { ranks.abort("a test asked for it"); });
      EXPECT_THROW(work.wait(), Error);
      aborter.join();
      ranks.barrier().wait();
    } else {
      ranks.receive(buffer_of(values), 0).wait();
    }
  });
  EXPECT_EQ(outcomes[0].code, ErrorCode::kAborted);
  EXPECT_THAT(outcomes[0].message, HasSubstr("a test asked for it"));
  EXPECT_EQ(outcomes[1].code, ErrorCode::kPeerLost);
  EXPECT_THAT(outcomes[1].message, HasSubstr("lost rank 0"));
  EXPECT_THAT(outcomes[1].message, HasSubstr("it gave up: aborted: a test asked for it"));
}

TEST_P(CommunicatorFailure, APeerThatEndsInTheMiddleOfAnOperationIsLost) {
  std::vector<std::vector<float>> values(3, std::vector<float>(5'000'000));
  const auto outcomes = run_ranks(GetParam(), 3, kGenerous, [&](Communicator& ranks) {
    Work work = ranks.all_reduce(buffer_of(values[ranks.rank()]), ReduceOp::kSum);
    // Rank 2 goes away with half of its slices under way.
    if (ranks.rank() != 2) work.wait();
  });
  EXPECT_EQ(outcomes[0].code, ErrorCode::kPeerLost);
  EXPECT_EQ(outcomes[1].code, ErrorCode::kPeerLost);
}

TEST_P(CommunicatorFailure, APeerThatHasEndedMattersOnlyToOperationsThatNeedIt) {
  std::promise<void> rank_2_ended;
  std::shared_future<void> ended = rank_2_ended.get_future().share();
  const auto store = std::make_shared<MemoryStore>();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      auto ranks = make_backend(GetParam(), rank, 3, store, {.timeout = kGenerous});
      ranks->barrier().wait();
      if (rank == 2) {
        ranks.reset();
        rank_2_ended.set_value();
        return;
      }
      ended.wait_for(kGenerous);
      std::vector<float> sent(10, static_cast<float>(rank)), received(10);
      Work sending = ranks->send(buffer_of(sent), 1 - rank);
      ranks->receive(buffer_of(received), 1 - rank).wait();
      sending.wait();
      EXPECT_EQ(received[0], static_cast<float>(1 - rank));
      try {
        ranks->barrier().wait();
        ADD_FAILURE() << "a barrier without rank 2";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kPeerLost);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(CommunicatorFailure, DestructionWithOperationsInFlightFailsTheirWorks) {
  std::vector<float> values(10);
  const auto outcomes = run_ranks(GetParam(), 2, kGenerous, [&](Communicator&) {});
  EXPECT_FALSE(outcomes[0].failed || outcomes[1].failed);
  const auto store = std::make_shared<MemoryStore>();
  auto first = std::async(std::launch::async, [&] { return make_backend(GetParam(), 0, 2, store, {}); });
  const auto second = make_backend(GetParam(), 1, 2, store, {});
  Work work;
  {
    const auto ranks = first.get();
    work = ranks->receive(buffer_of(values), 1);
  }
  EXPECT_TRUE(work.is_done());
  EXPECT_THROW(work.wait(), Error);
}

TEST_P(CommunicatorFailure, ARankThatDoesNotComeIsNamedWhenTheRendezvousTimesOut) {
  const auto store = std::make_shared<MemoryStore>();
  try {
    make_backend(GetParam(), 0, 2, store, {.timeout = milliseconds(50)});
    FAIL() << "a communicator of two ranks with one";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTimeout);
    EXPECT_THAT(error.what(), HasSubstr("rank 1"));
  }
}

TEST_P(CommunicatorFailure, WrongArgumentsAreRefusedBeforeAnythingIsSent) {
  const auto outcomes = run_ranks(GetParam(), 2, kGenerous, [](Communicator& ranks) {
    std::vector<float> three(3), two(2);
    std::vector<std::int32_t> integers(1);
    EXPECT_THROW(ranks.all_reduce({nullptr, 4, DType::kFloat32}, ReduceOp::kSum), Error);
    EXPECT_THROW(ranks.all_reduce({three.data(), -1, DType::kFloat32}, ReduceOp::kSum), Error);
    EXPECT_THROW(ranks.reduce_scatter(buffer_of(three), buffer_of(two), ReduceOp::kSum), Error);
    EXPECT_THROW(ranks.all_gather(buffer_of(integers, DType::kInt32), buffer_of(two)), Error);
    EXPECT_THROW(ranks.all_to_all(buffer_of(three), buffer_of(three)), Error);
    EXPECT_THROW(ranks.broadcast(buffer_of(two), 2), Error);
    EXPECT_THROW(ranks.send(buffer_of(two), ranks.rank()), Error);
    EXPECT_THROW(ranks.all_reduce({two.data(), 2, DType::kFloat32, DeviceKind::kCuda}, ReduceOp::kSum),
                 Error);
    ranks.all_reduce(buffer_of(two), ReduceOp::kSum).wait();
  });
  EXPECT_FALSE(outcomes[0].failed || outcomes[1].failed) << outcomes[0].message << outcomes[1].message;
}

}  // namespace
}  // namespace deepscale
