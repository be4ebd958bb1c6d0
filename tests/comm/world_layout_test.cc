#include "comm/base/world_layout.h"

#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "tests/refusal.h"

namespace deepscale {
namespace {

Environment make_environment(std::initializer_list<std::pair<const char*, const char*>> variables) {
  Environment environment;
  for (const auto& [name, value] : variables) environment.set(name, value);
  return environment;
}

TEST(WorldLayout, WithoutAnyLauncherIsRankZeroOfOne) {
  const WorldLayout layout = WorldLayout::from_environment(Environment());
  EXPECT_EQ(layout.rank, 0);
  EXPECT_EQ(layout.world_size, 1);
  EXPECT_EQ(layout.local_world_size, 1);
  EXPECT_EQ(layout.started_by, StartedBy::kNobody);
}

TEST(WorldLayout, ReadsTheTorchrunContract) {
  const WorldLayout layout =
      WorldLayout::from_environment(make_environment({{"RANK", "5"},
                                                      {"WORLD_SIZE", "8"},
                                                      {"LOCAL_RANK", "1"},
                                                      {"LOCAL_WORLD_SIZE", "4"},
                                                      {"GROUP_RANK", "1"},
                                                      {"MASTER_ADDR", "10.0.0.1"},
                                                      {"MASTER_PORT", "1234"},
                                                      {"TORCHELASTIC_USE_AGENT_STORE", "True"}}));
  EXPECT_EQ(layout.rank, 5);
  EXPECT_EQ(layout.local_rank, 1);
  EXPECT_EQ(layout.node_rank, 1);
  EXPECT_EQ(layout.node_count, 2);
  EXPECT_EQ(layout.master_addr, "10.0.0.1");
  EXPECT_EQ(layout.master_port, 1234);
  EXPECT_TRUE(layout.launcher_serves_store);
  EXPECT_EQ(layout.started_by, StartedBy::kEnvironment);
}

// torchrun's store outlives an attempt: who restarts must not read what the ranks before it wrote.
TEST(WorldLayout, ARestartOfTorchrunIsAGeneration) {
  Environment environment = make_environment({{"RANK", "0"}, {"WORLD_SIZE", "2"}});
  EXPECT_EQ(WorldLayout::from_environment(environment).generation, 0);
  environment.set("TORCHELASTIC_RESTART_COUNT", "2");
  EXPECT_EQ(WorldLayout::from_environment(environment).generation, 2);
  environment.set("DEEPSCALE_GENERATION", "1");
  EXPECT_EQ(WorldLayout::from_environment(environment).generation, 1);
}

TEST(WorldLayout, RecognisesOtherLaunchers) {
  const WorldLayout open_mpi =
      WorldLayout::from_environment(make_environment({{"OMPI_COMM_WORLD_RANK", "2"},
                                                      {"OMPI_COMM_WORLD_SIZE", "3"},
                                                      {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                                                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "3"}}));
  EXPECT_EQ(open_mpi.rank, 2);
  EXPECT_EQ(open_mpi.started_by, StartedBy::kOpenMpi);
  const WorldLayout pmi =
      WorldLayout::from_environment(make_environment({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}));
  EXPECT_EQ(pmi.rank, 1);
  EXPECT_EQ(pmi.local_rank, 1);
  EXPECT_EQ(pmi.started_by, StartedBy::kPmi);
  const WorldLayout slurm = WorldLayout::from_environment(make_environment(
      {{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_LOCALID", "1"}}));
  EXPECT_EQ(slurm.rank, 1);
  EXPECT_EQ(slurm.started_by, StartedBy::kSlurm);
}

Environment slurm_rank(const char* rank, const char* local_rank, const char* node) {
  return make_environment({{"SLURM_STEP_ID", "0"},
                           {"SLURM_PROCID", rank},
                           {"SLURM_NTASKS", "20"},
                           {"SLURM_LOCALID", local_rank},
                           {"SLURM_NODEID", node},
                           {"SLURM_NNODES", "3"}});
}

TEST(WorldLayout, SlurmTellsTheRanksOfEachNode) {
  for (const auto& [node, ranks] : {std::pair("0", 8), std::pair("1", 8), std::pair("2", 4)}) {
    Environment environment = slurm_rank("0", "3", node);
    environment.set("SLURM_STEP_TASKS_PER_NODE", "8(x2),4");
    const WorldLayout layout = WorldLayout::from_environment(environment);
    EXPECT_EQ(layout.local_world_size, ranks);
    EXPECT_EQ(layout.node_rank, node[0] - '0');
    EXPECT_EQ(layout.node_count, 3);
  }
}

TEST(WorldLayout, SlurmsRanksAreTakenToBeEvenOverTheNodesWhereItDoesNotTell) {
  EXPECT_EQ(WorldLayout::from_environment(slurm_rank("6", "6", "0")).local_world_size, 7);
  EXPECT_EQ(WorldLayout::from_environment(slurm_rank("7", "7", "0")).local_world_size, 8);
}

TEST(WorldLayout, TasksPerNodeThatMakeNoSenseAreRefused) {
  for (const char* text : {"8(x2)", "8(x2", "8(x2),", "8(x2),four", "8(y2),4", "8(x0),4", "8,8,0", "8,8,-4",
                           "8,8,99999999999"}) {
    Environment environment = slurm_rank("16", "0", "2");
    environment.set("SLURM_STEP_TASKS_PER_NODE", text);
    const auto refusal = testing::refusal_of([&] { WorldLayout::from_environment(environment); });
    EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refusal.message.find(std::string("SLURM_STEP_TASKS_PER_NODE='") + text), std::string::npos)
        << refusal.message;
  }
}

TEST(WorldLayout, AnSbatchScriptItselfIsNoRank) {
  const WorldLayout layout =
      WorldLayout::from_environment(make_environment({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}));
  EXPECT_EQ(layout.world_size, 1);
}

TEST(WorldLayout, ContradictionsNameTheVariables) {
  for (const auto& environment :
       {make_environment({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), make_environment({{"RANK", "0"}}),
        make_environment({{"RANK", "zero"}, {"WORLD_SIZE", "2"}})}) {
    try {
      WorldLayout::from_environment(environment);
      FAIL() << "expected an Error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(std::string(error.what()).find("RANK"), std::string::npos) << error.what();
    }
  }
}

// Cut to 32 or 16 bits, these would be rank 0 of 1 and port 34463.
TEST(WorldLayout, NumbersThatDoNotFitAreRefused) {
  for (const auto& [name, value] : {std::pair("RANK", "4294967296"), std::pair("WORLD_SIZE", "4294967297"),
                                    std::pair("RANK", "-4294967296"), std::pair("LOCAL_RANK", "4294967296"),
                                    std::pair("MASTER_PORT", "99999"), std::pair("MASTER_PORT", "-1"),
                                    std::pair("DEEPSCALE_GENERATION", "4294967296")}) {
    Environment environment = make_environment({{"RANK", "0"}, {"WORLD_SIZE", "1"}});
    environment.set(name, value);
    const auto refusal = testing::refusal_of([&] { WorldLayout::from_environment(environment); });
    EXPECT_EQ(refusal.code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refusal.message.find(std::string(name) + "=" + value), std::string::npos) << refusal.message;
  }
}

}  // namespace
}  // namespace deepscale
