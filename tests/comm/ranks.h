// Runs the ranks of a communicator as threads of the test.
#pragma once

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/base/error.h"
#include "comm/communicator.h"
#include "tests/comm/memory_store.h"

namespace deepscale {

using RankBody = std::function<void(Communicator&)>;

// What a rank's body threw; empty when it returned.
struct RankOutcome {
  bool failed = false;
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

inline std::unique_ptr<Communicator> make_backend(const std::string& backend, int rank, int world_size,
                                                  std::shared_ptr<Store> store, CommunicatorOptions options) {
  const auto make = backend == "shm"    ? make_shm_communicator
                    : backend == "gloo" ? make_gloo_communicator
                                        : make_tcp_communicator;
  return make(rank, world_size, std::move(store), std::move(options));
}

// Every rank makes its communicator, runs `body` and destroys it. A body that throws ends its own rank only.
inline std::vector<RankOutcome> run_ranks(const std::string& backend, int world_size, Clock::duration timeout,
                                          const RankBody& body) {
  const auto store = std::make_shared<MemoryStore>();
  std::vector<RankOutcome> outcomes(world_size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const auto communicator = make_backend(backend, rank, world_size, store, {.timeout = timeout});
        body(*communicator);
      } catch (const Error& error) {
        outcomes[rank] = {true, error.code(), error.what()};
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

// What ranks do at a deadline, tried with a short one; with a longer one where the machine is too slow for
// all of them to meet within it.
struct DeadlineRun {
  std::vector<RankOutcome> outcomes;
  std::string limit;  // "0.2 s"
};

// `run` runs the ranks with this timeout and counts in `met` those that have their communicator.
inline DeadlineRun run_to_deadline(
    int world_size,
    const std::function<std::vector<RankOutcome>(Clock::duration timeout, std::atomic<int>& met)>& run) {
  for (std::chrono::milliseconds timeout(200);; timeout *= 5) {
    std::atomic<int> met = 0;
    auto outcomes = run(timeout, met);
    if (met == world_size || timeout > std::chrono::seconds(20))
      return {std::move(outcomes), fmt::format("{:g} s", std::chrono::duration<double>(timeout).count())};
  }
}

// Ranks that all have to succeed.
inline void run_good_ranks(const std::string& backend, int world_size, const RankBody& body) {
  const auto outcomes = run_ranks(backend, world_size, std::chrono::seconds(60), body);
  for (int rank = 0; rank < world_size; ++rank) {
    EXPECT_FALSE(outcomes[rank].failed) << "rank " << rank << ": " << outcomes[rank].message;
  }
}

// Tests that every backend has to pass; the parameter is its name. Those of this build:
// DEEPSCALE_TEST_BACKENDS (CMakeLists.txt).
class EveryBackend : public ::testing::TestWithParam<std::string> {};
#define DEEPSCALE_FOR_EVERY_BACKEND(suite)                                              \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::Values(DEEPSCALE_TEST_BACKENDS), \
                           [](const auto& backend) { return backend.param; })

template <typename Element>
Buffer buffer_of(std::vector<Element>& elements, DType dtype) {
  return {elements.data(), static_cast<std::int64_t>(elements.size()), dtype};
}

inline Buffer buffer_of(std::vector<float>& elements) {
  return buffer_of(elements, DType::kFloat32);
}

}  // namespace deepscale
