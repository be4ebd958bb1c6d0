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

TEST(Machine, KnowsWhereItsGpusAre) {
  Machine machine;
  machine.gpus = {{"GPU-8932f937-d72c", 1}, {"GPU-46abccd6-022e", 0}};
  EXPECT_EQ(machine.numa_node_of_gpu("0"), 1);
  EXPECT_EQ(machine.numa_node_of_gpu("1"), 0);
  EXPECT_EQ(machine.numa_node_of_gpu("2"), -1);
  EXPECT_EQ(machine.numa_node_of_gpu("GPU-46abccd6-022e"), 0);
  EXPECT_EQ(machine.numa_node_of_gpu("GPU-89"), 1);
  EXPECT_EQ(machine.numa_node_of_gpu("MIG-GPU-46abccd6-022e/7/0"), 0);
  EXPECT_EQ(machine.numa_node_of_gpu("MIG-6e16a44b"), -1);
}

TEST(Machine, AQuotaLimitsTheCoresThatAJobCanKeepBusy) {
  Machine machine;
  machine.cores.assign(16, {{0}, 0});
  EXPECT_EQ(machine.usable_core_count(), 16);
  for (const auto& [quota, cores] : {std::pair(3.5, 4), std::pair(0.2, 1), std::pair(64.0, 16)}) {
    machine.processor_quota = quota;
    EXPECT_EQ(machine.usable_core_count(), cores) << quota;
  }
}

TEST(Machine, FindsItselfInOrder) {
  const Machine machine = Machine::of_this();
  EXPECT_FALSE(machine.host_name.empty());
  EXPECT_GE(machine.core_count(), 1);
  for (const Core& core : machine.cores) EXPECT_THAT(core.processors, ::testing::Not(IsEmpty()));
  EXPECT_GE(machine.gpu_count, 0);
}

}  // namespace
}  // namespace deepscale::testing
