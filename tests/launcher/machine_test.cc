#include "launcher/job/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> visible(const char* listed, int gpu_count) {
  Environment environment;
  environment.set("CUDA_VISIBLE_DEVICES", listed);
  return visible_gpus(environment, gpu_count);
}

TEST(VisibleGpus, FollowCudasRules) {
  EXPECT_THAT(visible_gpus(Environment(), 3), ElementsAre("0", "1", "2"));
  EXPECT_THAT(visible_gpus(Environment(), 0), IsEmpty());
  EXPECT_THAT(visible("2, 0", 4), ElementsAre("2", "0"));
  EXPECT_THAT(visible("GPU-8932f937,MIG-3", 4), ElementsAre("GPU-8932f937", "MIG-3"));
  EXPECT_THAT(visible("1,-1,2", 4), ElementsAre("1"));
  EXPECT_THAT(visible("1,9,2", 4), ElementsAre("1"));
  EXPECT_THAT(visible("", 4), IsEmpty());
  EXPECT_THAT(visible("NoDevFiles", 4), IsEmpty());
  EXPECT_THAT(visible("0,1", 0), IsEmpty());
}

TEST(Machine, KnowsItsNames) {
  Machine machine;
  machine.host_name = "node-7.cluster";
  for (const char* name : {"localhost", "127.0.0.1", "::1", "node-7", "node-7.cluster"})
    EXPECT_TRUE(machine.is_called(name)) << name;
  for (const char* name : {"node-8", "node-7.other", "10.0.0.1", ""})
    EXPECT_FALSE(machine.is_called(name)) << name;
}

TEST(Machine, FindsItselfInOrder) {
  const Machine machine = Machine::of_this();
  EXPECT_FALSE(machine.host_name.empty());
  EXPECT_GE(machine.core_count(), 1);
  for (const std::vector<int>& core : machine.cores) EXPECT_THAT(core, ::testing::Not(IsEmpty()));
  EXPECT_GE(machine.gpu_count, 0);
}

}  // namespace
}  // namespace deepscale::testing
