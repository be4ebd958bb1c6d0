#include "launcher/job/job_plan.h"

#include "launcher/job/plan_text.h"
#include "tests/launcher/expect_error.h"

namespace deepscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

PlanInputs inputs_for(int gpu_count) {
  PlanInputs inputs;
  inputs.machine.host_name = "here";
  inputs.machine.cores.clear();  // 16, each with two logical processors
  for (int core = 0; core < 16; ++core) inputs.machine.cores.push_back({{core, core + 16}});
  inputs.machine.gpu_count = gpu_count;
  inputs.program = {"/usr/bin/python3", {"train.py"}, true};
  inputs.spec.arguments = {"--lr", "0.1"};
  return inputs;
}

std::string complaint(const PlanInputs& inputs) {
  return message_of([&] { make_job_plan(inputs); });
}

TEST(JobPlan, WithoutGpusIsOneRankOnTheCpuUnlessAskedOtherwise) {
  PlanInputs inputs = inputs_for(0);
  EXPECT_EQ(make_job_plan(inputs).world_size, 1);
  inputs.spec.ranks_per_node = 6;
  const JobPlan plan = make_job_plan(inputs);
  EXPECT_EQ(plan.world_size, 6);
  EXPECT_THAT(plan.nodes.front().devices, IsEmpty());
}

TEST(JobPlan, HasOneRankPerVisibleGpu) {
  PlanInputs inputs = inputs_for(8);
  EXPECT_EQ(make_job_plan(inputs).world_size, 8);
  inputs.environment.set("CUDA_VISIBLE_DEVICES", "6,4,2");
  EXPECT_THAT(make_job_plan(inputs).nodes.front().devices, ElementsAre("6", "4", "2"));
  inputs.spec.ranks_per_node = 2;
  EXPECT_THAT(make_job_plan(inputs).nodes.front().devices, ElementsAre("6", "4"));
}

TEST(JobPlan, IncludeCountsAmongTheVisibleGpus) {
  PlanInputs inputs = inputs_for(8);
  inputs.environment.set("CUDA_VISIBLE_DEVICES", "6,4,2");
  inputs.spec.include = "localhost:0,2";
  const JobPlan plan = make_job_plan(inputs);
  EXPECT_EQ(plan.world_size, 2);
  EXPECT_THAT(plan.nodes.front().devices, ElementsAre("6", "2"));
}

TEST(JobPlan, MoreRanksThanGpusNamesBothNumbersUnlessOversubscribed) {
  PlanInputs inputs = inputs_for(2);
  inputs.spec.ranks_per_node = 5;
  EXPECT_THAT(complaint(inputs), HasSubstr("--num_gpus 5 asks for more ranks than the 2 slots (GPUs)"));
  inputs.spec.oversubscribe = true;
  const JobPlan plan = make_job_plan(inputs);
  EXPECT_EQ(plan.world_size, 5);
  EXPECT_THAT(plan.nodes.front().devices, ElementsAre("0", "1"));
}

TEST(JobPlan, AHostfileThatPromisesTooManyGpusHereIsRefused) {
  PlanInputs inputs = inputs_for(2);
  inputs.hosts = {{"localhost", {0, 1, 2, 3}}};
  EXPECT_THAT(complaint(inputs), HasSubstr("only 2 GPUs are visible here"));
}

TEST(JobPlan, FiltersAndCountsDoNotMix) {
  PlanInputs inputs = inputs_for(2);
  inputs.spec.include = "localhost";
  inputs.spec.ranks_per_node = 1;
  EXPECT_THAT(complaint(inputs), HasSubstr("cannot be used with --num_nodes or --num_gpus"));
}

TEST(JobPlan, OtherMachinesArePlannedButNotLaunched) {
  PlanInputs inputs = inputs_for(2);
  inputs.hosts = {{"here", {0, 1}}, {"there", {0, 3}}};
  const JobPlan plan = make_job_plan(inputs);
  EXPECT_EQ(plan.world_size, 4);
  EXPECT_TRUE(plan.nodes[0].is_this_machine && !plan.nodes[1].is_this_machine);
  EXPECT_THAT(plan.nodes[1].devices, ElementsAre("0", "3"));
  EXPECT_THAT(message_of([&] { require_this_machine_only(plan); }, ErrorCode::kUnsupported),
              HasSubstr("needs 2 nodes"));
  inputs.spec.node_count = 1;
  EXPECT_NO_THROW(require_this_machine_only(make_job_plan(inputs)));
  inputs.hosts = {{"there", {0}}};
  const JobPlan elsewhere = make_job_plan(inputs);
  EXPECT_THAT(message_of([&] { require_this_machine_only(elsewhere); }, ErrorCode::kUnsupported),
              HasSubstr("\"there\", which is not this machine"));
}

TEST(JobPlan, PythonProgramsGetTheirLocalRank) {
  PlanInputs inputs = inputs_for(0);
  inputs.spec.ranks_per_node = 2;
  JobPlan plan = make_job_plan(inputs);
  EXPECT_THAT(rank_arguments(plan, {0, 1}), ElementsAre("train.py", "--local_rank=1", "--lr", "0.1"));
  plan.pass_local_rank = false;
  EXPECT_THAT(rank_arguments(plan, {0, 1}), ElementsAre("train.py", "--lr", "0.1"));
  plan.pass_local_rank = true;
  plan.program = {"/bin/x", {}, false};
  EXPECT_THAT(rank_arguments(plan, {0, 1}), ElementsAre("--lr", "0.1"));
}

TEST(JobPlan, BindsEachRankToItsOwnCores) {
  PlanInputs inputs = inputs_for(0);
  inputs.spec.ranks_per_node = 3;
  EXPECT_THAT(rank_processors(make_job_plan(inputs), {0, 0}), IsEmpty());
  inputs.spec.bind_cores_to_rank = true;
  JobPlan plan = make_job_plan(inputs);
  EXPECT_THAT(rank_processors(plan, {0, 0}), ElementsAre(0, 1, 2, 3, 4, 16, 17, 18, 19, 20));
  EXPECT_EQ(rank_cores(plan, {0, 1}).size() + rank_cores(plan, {0, 2}).size(), 11U);
  EXPECT_EQ(rank_environment({}, plan, {0, 0}, {}).get("OMP_NUM_THREADS"), "5");
  inputs.spec.bind_core_list = {1, 2, 5, 18};
  plan = make_job_plan(inputs);
  EXPECT_THAT(rank_processors(plan, {0, 0}), ElementsAre(1));
  EXPECT_THAT(rank_processors(plan, {0, 1}), ElementsAre(2, 18));
  EXPECT_THAT(rank_processors(plan, {0, 2}), ElementsAre(5));
  EXPECT_THAT(describe(plan, {}, {}), HasSubstr("processors:\n  rank 0: 1\n  rank 1: 2,18\n  rank 2: 5\n"));
}

// 4 GPUs: 0 and 2 near NUMA node 1, the others near node 0; each node has 8 of the 16 cores.
PlanInputs inputs_with_numa_nodes() {
  PlanInputs inputs = inputs_for(4);
  for (std::size_t core = 8; core < 16; ++core) inputs.machine.cores[core].numa_node = 1;
  inputs.machine.gpus = {{"GPU-aa", 1}, {"GPU-bb", 0}, {"GPU-cc", 1}, {"GPU-dd", 0}};
  inputs.spec.bind_cores_to_rank = true;
  return inputs;
}

std::vector<int> first_processors(const JobPlan& plan) {
  std::vector<int> firsts;
  for (int rank = 0; rank < plan.world_size; ++rank)
    firsts.push_back(rank_processors(plan, {0, rank}).front());
  return firsts;
}

TEST(JobPlan, BoundRanksRunNearTheirGpu) {
  PlanInputs inputs = inputs_with_numa_nodes();
  JobPlan plan = make_job_plan(inputs);
  EXPECT_THAT(first_processors(plan), ElementsAre(8, 0, 12, 4));
  EXPECT_THAT(rank_processors(plan, {0, 2}), ElementsAre(12, 13, 14, 15, 28, 29, 30, 31));
  inputs.environment.set("CUDA_VISIBLE_DEVICES", "GPU-cc,1,GPU-aa");
  plan = make_job_plan(inputs);
  EXPECT_THAT(first_processors(plan), ElementsAre(8, 0, 12));
  EXPECT_EQ(rank_cores(plan, {0, 1}).size(), 8U) << "the only rank of its NUMA node has all of it";
  EXPECT_EQ(rank_environment({}, plan, {0, 1}, {}).get("OMP_NUM_THREADS"), "8");
}

TEST(JobPlan, BoundRanksShareCoresInOrderWhereTheirGpusDoNotDecide) {
  PlanInputs inputs = inputs_with_numa_nodes();
  inputs.machine.gpus[3].numa_node = -1;
  EXPECT_THAT(first_processors(make_job_plan(inputs)), ElementsAre(0, 4, 8, 12)) << "one place is not known";
  inputs = inputs_with_numa_nodes();
  inputs.spec.bind_core_list = {0, 1, 2, 3, 8};
  EXPECT_THAT(first_processors(make_job_plan(inputs)), ElementsAre(0, 1, 2, 3))
      << "too few cores near two of them";
}

TEST(JobPlan, ABindingThatCannotBeIsRefused) {
  PlanInputs inputs = inputs_for(0);
  inputs.spec.ranks_per_node = 3;
  inputs.spec.bind_core_list = {0, 1};
  EXPECT_THAT(complaint(inputs), HasSubstr("3 ranks cannot be bound to 2 cores"));
  inputs.spec.bind_core_list = {0, 1, 99};
  EXPECT_THAT(complaint(inputs), HasSubstr("--bind_core_list names core 99"));
}

TEST(JobPlan, ReadsWell) {
  PlanInputs inputs = inputs_for(2);
  inputs.hosts = {{"here", {0, 1}}, {"there", {5}}};
  inputs.spec.arguments = {"it's", ""};
  Rendezvous rendezvous;
  rendezvous.job_id = "j1";
  EXPECT_EQ(describe(make_job_plan(inputs), {}, rendezvous),
            R"(job: 3 ranks on 2 nodes
  node 0: here, ranks 0-1, GPU 0,1
  node 1: there, rank 2, GPU 5
command of rank 0:
  /usr/bin/python3 train.py --local_rank=0 'it'\''s' ''
environment of rank 0, where it differs from this one:
  CROSS_RANK=0
  CROSS_SIZE=2
  CUDA_VISIBLE_DEVICES=0,1
  DEEPSCALE_GENERATION=0
  DEEPSCALE_JOB_ID=j1
  GROUP_RANK=0
  GROUP_WORLD_SIZE=2
  LOCAL_RANK=0
  LOCAL_SIZE=2
  LOCAL_WORLD_SIZE=2
  MASTER_ADDR=127.0.0.1
  MASTER_PORT=(a free one, chosen at the start)
  NODE_RANK=0
  OMP_NUM_THREADS=8
  PYTHONUNBUFFERED=1
  RANK=0
  TORCHELASTIC_MAX_RESTARTS=0
  TORCHELASTIC_RESTART_COUNT=0
  TORCHELASTIC_RUN_ID=j1
  TORCHELASTIC_USE_AGENT_STORE=True
  WORLD_SIZE=3
)");
}

struct GoldenCase {
  const char* include;
  const char* exclude;
  std::optional<int> ranks_per_node;
  const char* plan;  // the part of describe() that says where the ranks run
};

class GoldenPlan : public ::testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenPlan, OfHeterogeneousHosts) {
  PlanInputs inputs = inputs_for(4);
  inputs.hosts = parse_hostfile("here slots=4\nbig slots=8 # two racks\nidle slots=0\nsingle slots=1\n", "f");
  inputs.spec.include = GetParam().include;
  inputs.spec.exclude = GetParam().exclude;
  inputs.spec.ranks_per_node = GetParam().ranks_per_node;
  const std::string text = describe(make_job_plan(inputs), {}, {});
  EXPECT_EQ(text.substr(0, text.find("command of rank 0")), GetParam().plan);
}

INSTANTIATE_TEST_SUITE_P(JobPlan, GoldenPlan,
                         ::testing::Values(GoldenCase{"", "", {}, R"(job: 13 ranks on 3 nodes
  node 0: here, ranks 0-3, GPU 0,1,2,3
  node 1: big, ranks 4-11, GPU 0,1,2,3,4,5,6,7
  node 2: single, rank 12, GPU 0
)"},
                                           GoldenCase{"", "", 1, R"(job: 3 ranks on 3 nodes
  node 0: here, rank 0, GPU 0
  node 1: big, rank 1, GPU 0
  node 2: single, rank 2, GPU 0
)"},
                                           GoldenCase{"single@big:7,2,3", "", {}, R"(job: 4 ranks on 2 nodes
  node 0: big, ranks 0-2, GPU 2,3,7
  node 1: single, rank 3, GPU 0
)"},
                                           GoldenCase{"here:3", "", {}, R"(job: 1 rank on 1 node
  node 0: here, rank 0, GPU 3
)"},
                                           GoldenCase{
                                               "", "big:0,1,2,3,4,5@single", {}, R"(job: 6 ranks on 2 nodes
  node 0: here, ranks 0-3, GPU 0,1,2,3
  node 1: big, ranks 4-5, GPU 6,7
)"},
                                           GoldenCase{"", "here@big", {}, R"(job: 1 rank on 1 node
  node 0: single, rank 0, GPU 0
)"}));

TEST(PlanText, WritesRanges) {
  EXPECT_EQ(ranges_text({}), "");
  EXPECT_EQ(ranges_text({4}), "4");
  EXPECT_EQ(ranges_text({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
}

}  // namespace
}  // namespace deepscale::testing
