// Machines that are not here, as the files of Linux would show them.
#include "launcher/job/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

class Topology : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    const auto path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    folder_.write(name, text);
  }
  std::string at(const std::string& name) const { return (folder_.path() / name).string(); }

 private:
  const TemporaryFolder folder_;
};

TEST_F(Topology, ProcessorsHaveTheNumaNodeThatListsThem) {
  write("node/online", "0,2\n");
  write("node/node0/cpulist", "0-1,4\n");
  write("node/node2/cpulist", "2-3\n");
  EXPECT_THAT(numa_nodes(at("node")),
              ElementsAre(Pair(0, 0), Pair(1, 0), Pair(2, 2), Pair(3, 2), Pair(4, 0)));
  EXPECT_THAT(numa_nodes(at("none")), IsEmpty());
}

TEST_F(Topology, TheNarrowestQuotaAboveUsCounts) {
  write("cpu.max", "max 100000\n");
  write("jobs.slice/cpu.max", "150000 100000\n");
  write("jobs.slice/ours/cpu.max", "max 100000\n");
  EXPECT_EQ(quota_of_processors(at("."), "0::/jobs.slice/ours\n"), 1.5);
  EXPECT_EQ(quota_of_processors(at("."), "0::/\n"), std::nullopt);
  EXPECT_EQ(quota_of_processors(at("."), "not a cgroup"), std::nullopt);
}

TEST_F(Topology, QuotasOfVersionOneCountToo) {
  write("cpu/docker/x/cpu.cfs_quota_us", "400000\n");
  write("cpu/docker/x/cpu.cfs_period_us", "100000\n");
  write("cpu/cpu.cfs_quota_us", "-1\n");
  write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota_of_processors(at("."), "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n"), 4.0);
  EXPECT_EQ(quota_of_processors(at("."), "3:cpuset:/docker/x\n"), std::nullopt);
}

// A container sees its own cgroup as the root, and a path that is not there.
TEST_F(Topology, TheRootOfAContainerIsItsOwnCgroup) {
  write("cpu.max", "200000 100000\n");
  EXPECT_EQ(quota_of_processors(at("."), "0::/kubepods/pod7/x\n"), 2.0);
}

TEST_F(Topology, GpusComeInTheOrderOfTheirAddresses) {
  write("gpus/0000:8a:00.0/information", "Model: \t\t NVIDIA H100\nIRQ: 1\nGPU UUID: \t GPU-46abccd6\n");
  write("gpus/0000:1b:00.0/information", "Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-8932f937\n");
  write("devices/0000:8a:00.0/numa_node", "1\n");
  write("devices/0000:1b:00.0/numa_node", "0\n");
  const auto gpus = gpus_of_driver(at("gpus"), at("devices"));
  ASSERT_EQ(gpus.size(), 2U);
  EXPECT_EQ(gpus[0].uuid, "GPU-8932f937");
  EXPECT_EQ(gpus[0].numa_node, 0);
  EXPECT_EQ(gpus[1].uuid, "GPU-46abccd6");
  EXPECT_EQ(gpus[1].numa_node, 1);
  EXPECT_EQ(gpus_of_driver(at("gpus"), at("none")).front().numa_node, -1);
  EXPECT_TRUE(gpus_of_driver(at("none"), at("devices")).empty());
}

}  // namespace
}  // namespace deepscale::testing
