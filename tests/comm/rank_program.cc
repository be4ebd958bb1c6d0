// test_rank BACKEND COUNT...: a rank that runs collectives of these counts in turns until one fails.
// test_rank BACKEND random SEED [TIMEOUT_SECONDS]: the same with operations of any kind and size, several in
// flight; all ranks draw the same. Prints "running" after the first round, "operations N" in the second case,
// and the error when it comes. Exit code 3: a peer was lost; 4: anything else.
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "comm/base/error.h"
#include "comm/communicator.h"

namespace deepscale {
namespace {

void run_round(Communicator& ranks, std::byte* memory, std::int64_t count) {
  auto* values = reinterpret_cast<float*>(memory);
  const Buffer whole{.data = values, .count = count * ranks.size()};
  const Buffer slice{.data = values + ranks.rank() * count, .count = count};
  ranks.all_reduce(whole, ReduceOp::kAverage).wait();
  Work scatter = ranks.reduce_scatter(whole, slice, ReduceOp::kMax);
  Work gather = ranks.all_gather(slice, whole);
  scatter.wait();
  gather.wait();
  const int next = (ranks.rank() + 1) % ranks.size();
  const int previous = (ranks.rank() + ranks.size() - 1) % ranks.size();
  std::vector<float> received(static_cast<std::size_t>(count));
  Work sending = ranks.send(slice, next);
  ranks.receive({.data = received.data(), .count = count}, previous).wait();
  sending.wait();
  ranks.barrier().wait();
}

constexpr auto kLong = std::chrono::minutes(30);

std::unique_ptr<Communicator> join(const std::string& backend, std::chrono::seconds timeout) {
  const WorldLayout layout = WorldLayout::from_environment(Environment::of_process());
  const auto store = join_job_store(layout, Logger(), Deadline::after(std::chrono::minutes(1)));
  return make_communicator(layout, store, {.timeout = timeout, .backend = backend});
}

constexpr std::int64_t kMostFloats = 400'000;

// Buffers lie behind each other, so that those in flight do not overlap.
Work start_random(Communicator& ranks, std::mt19937& random, float*& memory, float* end) {
  constexpr std::int64_t kCounts[] = {0, 1, 100, 5000, 40'000};
  const std::int64_t size = ranks.size();
  const std::int64_t count = std::min(kCounts[random() % std::size(kCounts)], (end - memory) / size / 2);
  const Buffer whole{memory, count * size}, slice{memory + count * size, count};
  const Buffer other{memory + count * size, count * size};
  memory += 2 * count * size;
  switch (random() % 7) {
    case 0:
      return ranks.all_reduce(whole, ReduceOp::kAverage);
    case 1:
      return ranks.reduce_scatter(whole, slice, ReduceOp::kMax);
    case 2:
      return ranks.all_gather(slice, whole);
    case 3:
      return ranks.broadcast(whole, static_cast<int>(count % size));
    case 4:
      return ranks.all_to_all(whole, other);
    case 5: {
      const auto next = static_cast<int>((ranks.rank() + 1) % size);
      const auto previous = static_cast<int>((ranks.rank() + size - 1) % size);
      return Work::all_of({ranks.send(whole, next), ranks.receive(other, previous)});
    }
    default:
      return ranks.barrier();
  }
}

int run_random(const std::string& backend, std::uint32_t seed, std::chrono::seconds timeout) {
  const auto ranks = join(backend, timeout);
  const auto shared = ranks->allocate_shared(kMostFloats * sizeof(float));
  std::vector<float> plain(kMostFloats);
  std::mt19937 random(seed);
  std::int64_t operations = 0;
  try {
    for (;;) {
      float* memory = random() % 2 == 0 ? plain.data() : reinterpret_cast<float*>(shared.get());
      float* const end = memory + kMostFloats;
      std::vector<Work> works;
      for (auto left = 1 + random() % 4; left > 0; --left) {
        works.push_back(start_random(*ranks, random, memory, end));
      }
      const bool is_first = operations == 0;
      operations += static_cast<std::int64_t>(works.size());
      Work::all_of(std::move(works)).wait();
      if (is_first) fmt::print("running\n");
      std::fflush(stdout);
    }
  } catch (const Error&) {
    fmt::print("operations {}\n", operations);
    throw;
  }
}

int run(const std::string& backend, const std::vector<std::int64_t>& counts) {
  const auto ranks = join(backend, kLong);
  std::int64_t most = 1;
  for (const std::int64_t count : counts) most = std::max(most, count);
  const std::size_t bytes = static_cast<std::size_t>(most * ranks->size()) * sizeof(float);
  const auto shared = ranks->allocate_shared(bytes);
  std::vector<std::byte> plain(bytes);
  const auto common = ranks->has_common_memory() ? ranks->allocate_common(bytes) : nullptr;
  for (bool is_first = true;; is_first = false) {
    for (const std::int64_t count : counts) {
      run_round(*ranks, shared.get(), count);
      run_round(*ranks, plain.data(), count);
    }
    if (is_first) fmt::print("running\n");
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) try {
  if (argc >= 4 && argv[2] == std::string("random")) {
    const auto timeout = argc > 4 ? std::chrono::seconds(std::atoi(argv[4])) : deepscale::kLong;
    return deepscale::run_random(argv[1], static_cast<std::uint32_t>(std::atoll(argv[3])), timeout);
  }
  std::vector<std::int64_t> counts;
  for (int i = 2; i < argc; ++i) counts.push_back(std::atoll(argv[i]));
  return deepscale::run(argv[1], counts);
} catch (const deepscale::Error& error) {
  fmt::print("{}\n", error.what());
  return error.code() == deepscale::ErrorCode::kPeerLost ? 3 : 4;
}
