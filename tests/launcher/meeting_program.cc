// A rank that meets the others in barriers until one of them leaves; then it ends at once, with 1.
#include <cstdio>
#include <exception>

#include "comm/communicator.h"

int main() try {
  using namespace deepscale;
  const auto layout = WorldLayout::from_environment(Environment::of_process());
  const auto deadline = Deadline::after(std::chrono::seconds(60));
  const auto communicator = make_communicator(layout, join_job_store(layout, {}, deadline), {});
  communicator->barrier().wait();
  std::puts("ready");
  std::fflush(stdout);
  while (!deadline.has_passed()) communicator->barrier().wait();
  return 97;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
