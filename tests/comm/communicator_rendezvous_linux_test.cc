// What programs that a rank starts get of its communicator: nothing.
#include <gmock/gmock.h>

#include <future>

#include "tests/comm/ranks.h"
#include "tests/run_program.h"

namespace deepscale {
namespace {

constexpr auto kGenerous = std::chrono::seconds(30);

// The sockets that a program gets which this process starts now.
std::string inherited_sockets() {
  return testing::run_program("ls -l /proc/self/fd | sed -n 's/.*-> socket/socket/p'").output;
}

std::future<std::unique_ptr<Communicator>> join(int rank, std::shared_ptr<Store> store) {
  return std::async(std::launch::async,
                    [=] { return make_tcp_communicator(rank, 2, store, {.timeout = kGenerous}); });
}

// Else a port stays taken, and a peer waits for the end of a connection, while such a program lives.
TEST(CommunicatorRendezvous, ProgramsThatARankStartsGetNoneOfItsSockets) {
  const std::string before = inherited_sockets();
  const auto store = std::make_shared<MemoryStore>();
  auto first = join(0, store);
  store->wait({"communicator/world/rank 0"}, Deadline::after(kGenerous));
  EXPECT_EQ(inherited_sockets(), before) << "while rank 0 listens";
  auto second = join(1, store);
  const auto rank_0 = first.get(), rank_1 = second.get();
  EXPECT_EQ(inherited_sockets(), before) << "while the ranks are connected";
}

}  // namespace
}  // namespace deepscale
