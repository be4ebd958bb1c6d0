// LibTorch has another Gloo inside, with the same names. Whichever of the two comes into the process first,
// ours computes what it should. Each case is a process of its own.
#include <dlfcn.h>

#include <cstdlib>

#include "tests/comm/ranks.h"

namespace deepscale {
namespace {

void load_libtorch() {
  if (dlopen(DEEPSCALE_LIBTORCH_CPU, RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    fmt::print(stderr, "{}\n", dlerror());
    std::exit(2);
  }
  // What makes the test meaningful: anybody who asks for Gloo's functions now gets LibTorch's.
  if (dlsym(RTLD_DEFAULT, "_ZN4gloo9transport3tcp12CreateDeviceERKNS1_4attrE") == nullptr) std::exit(3);
}

void sum_over_two_ranks() {
  const auto outcomes = run_ranks("gloo", 2, std::chrono::seconds(30), [](Communicator& ranks) {
    std::vector<float> values(100'000, static_cast<float>(ranks.rank() + 1));
    ranks.all_reduce(buffer_of(values), ReduceOp::kSum).wait();
    if (values != std::vector<float>(values.size(), 3.0f)) throw Error(ErrorCode::kInternal, "a wrong sum");
  });
  for (const RankOutcome& outcome : outcomes) {
    if (!outcome.failed) continue;
    fmt::print(stderr, "{}\n", outcome.message);
    std::exit(4);
  }
}

class GlooBesideLibTorch : public ::testing::Test {
 protected:
  GlooBesideLibTorch() { ::testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_F(GlooBesideLibTorch, ComputesWhenLibTorchIsThereFirst) {
  const auto body = [] {
    load_libtorch();
    sum_over_two_ranks();
    std::_Exit(0);
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(0), "");
}

TEST_F(GlooBesideLibTorch, ComputesWhenLibTorchComesLater) {
  const auto body = [] {
    sum_over_two_ranks();
    load_libtorch();
    sum_over_two_ranks();
    std::_Exit(0);
  };
  EXPECT_EXIT(body(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace deepscale
