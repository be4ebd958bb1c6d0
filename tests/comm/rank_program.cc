// test_rank BACKEND COUNT...: a rank that runs collectives of these counts in turns until one fails. Prints
// "running" after the first round, and the error when it comes. Exit code 3: a peer was lost; 4: anything
// else.
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
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

int run(const std::string& backend, const std::vector<std::int64_t>& counts) {
  const WorldLayout layout = WorldLayout::from_environment(Environment::of_process());
  const auto store = join_job_store(layout, Logger(), Deadline::after(std::chrono::minutes(1)));
  const auto ranks = make_communicator(layout, store, {.backend = backend});
  std::int64_t most = 1;
  for (const std::int64_t count : counts) most = std::max(most, count);
  const std::size_t bytes = static_cast<std::size_t>(most * ranks->size()) * sizeof(float);
  const auto shared = ranks->allocate_shared(bytes);
  std::vector<std::byte> plain(bytes);
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
  std::vector<std::int64_t> counts;
  for (int i = 2; i < argc; ++i) counts.push_back(std::atoll(argv[i]));
  return deepscale::run(argv[1], counts);
} catch (const deepscale::Error& error) {
  fmt::print("{}\n", error.what());
  return error.code() == deepscale::ErrorCode::kPeerLost ? 3 : 4;
}
