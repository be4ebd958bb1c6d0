#include "launcher/job/rank_environment.h"

#include <filesystem>

#include "comm/base/world_layout.h"
#include "tests/launcher/expect_error.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Three ranks on a, one on b, as a heterogeneous hostfile gives.
JobPlan two_nodes() {
  JobPlan plan;
  plan.nodes = {{{"a", 0, {0, 1, 2}}, {}, true}, {{"b", 3, {1}}, {"1"}, false}};
  plan.world_size = 4;
  plan.cores_per_node = 8;
  plan.max_restarts = 2;
  return plan;
}

const Rendezvous kRendezvous{"job-1", "10.0.0.1", 4321, 1};

TEST(RankEnvironment, IsTheContract) {
  const Environment seen = rank_environment({}, two_nodes(), {1, 0}, kRendezvous);
  const Environment::Map expected = {{"RANK", "3"},
                                     {"WORLD_SIZE", "4"},
                                     {"LOCAL_RANK", "0"},
                                     {"LOCAL_WORLD_SIZE", "1"},
                                     {"LOCAL_SIZE", "1"},
                                     {"GROUP_RANK", "1"},
                                     {"NODE_RANK", "1"},
                                     {"CROSS_RANK", "1"},
                                     {"GROUP_WORLD_SIZE", "2"},
                                     {"CROSS_SIZE", "2"},
                                     {"MASTER_ADDR", "10.0.0.1"},
                                     {"MASTER_PORT", "4321"},
                                     {"DEEPSCALE_JOB_ID", "job-1"},
                                     {"DEEPSCALE_GENERATION", "1"},
                                     {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                     {"TORCHELASTIC_RUN_ID", "job-1"},
                                     {"TORCHELASTIC_RESTART_COUNT", "1"},
                                     {"TORCHELASTIC_MAX_RESTARTS", "2"},
                                     {"CUDA_VISIBLE_DEVICES", "1"},
                                     {"OMP_NUM_THREADS", "8"},
                                     {"PYTHONUNBUFFERED", "1"}};
  EXPECT_EQ(seen.variables(), expected);
}

TEST(RankEnvironment, IsWhatTheRuntimeReads) {
  const WorldLayout layout =
      WorldLayout::from_environment(rank_environment({}, two_nodes(), {0, 2}, kRendezvous));
  EXPECT_EQ(layout.rank, 2);
  EXPECT_EQ(layout.local_world_size, 3);
  EXPECT_EQ(layout.node_count, 2);
  EXPECT_EQ(layout.generation, 1);
  EXPECT_EQ(layout.job_id, "job-1");
  EXPECT_TRUE(layout.launcher_serves_store);
  EXPECT_EQ(layout.started_by, StartedBy::kDeepScale);
}

TEST(RankEnvironment, GivesWayWhereTheUserHasChosen) {
  Environment job;
  job.set("OMP_NUM_THREADS", "3");
  job.set("PYTHONUNBUFFERED", "");
  job.set("CUDA_VISIBLE_DEVICES", "");
  const Environment seen = rank_environment(job, two_nodes(), {0, 0}, kRendezvous);
  EXPECT_EQ(seen.get("OMP_NUM_THREADS"), "3");
  EXPECT_EQ(seen.get("PYTHONUNBUFFERED"), "");
  EXPECT_EQ(seen.get("CUDA_VISIBLE_DEVICES"), "");
}

TEST(RankEnvironment, LeavesAtLeastOneThread) {
  JobPlan plan = two_nodes();
  plan.cores_per_node = 2;
  EXPECT_EQ(rank_environment({}, plan, {0, 0}, kRendezvous).get("OMP_NUM_THREADS"), "1");
}

TEST(JobEnvironment, DropsWhatAnotherLauncherSaidAboutUs) {
  Environment own;
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID",
                           "TORCHELASTIC_RUN_ID", "RANK", "MASTER_PORT"}) {
    own.set(name, "1");
  }
  own.set("PATH", "/bin");
  own.set("SLURM_JOB_ID", "7");
  own.set("DEEPSCALE_CACHE_DIR", "/cache");
  const Environment job = job_environment(own, {{"COLOUR", "a=b \"c\""}});
  const Environment::Map expected = {
      {"PATH", "/bin"}, {"SLURM_JOB_ID", "7"}, {"DEEPSCALE_CACHE_DIR", "/cache"}, {"COLOUR", "a=b \"c\""}};
  EXPECT_EQ(job.variables(), expected);
}

TEST(JobEnvironment, RefusesToOverrideTheContract) {
  EXPECT_THAT(message_of([] {
                job_environment({}, {{"RANK", "5"}});
              }),
              HasSubstr("--env RANK: the launcher itself sets"));
}

TEST(EnvironmentFile, KeepsValuesAsTheyStand) {
  const TemporaryFolder folder;
  const auto path = folder.write("environment", "# a comment\n\nA=1 2\r\nB=\"quoted\" # no comment\nC=\n");
  EXPECT_THAT(
      read_environment_file(path.string()),
      ElementsAre(std::pair("A", "1 2"), std::pair("B", "\"quoted\" # no comment"), std::pair("C", "")));
  folder.write("environment", "A=1\nnonsense\n");
  EXPECT_THAT(message_of([&] { read_environment_file(path.string()); }),
              HasSubstr(":2: \"nonsense\" is not NAME=VALUE."));
  std::filesystem::remove(path);
  EXPECT_THAT(message_of([&] { read_environment_file(path.string()); }), HasSubstr("cannot be read"));
}

}  // namespace
}  // namespace deepscale::testing
