#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "comm/base/error.h"
#include "comm/store/store.h"
#include "comm/store/store_server.h"
#include "tests/comm/job_ranks.h"

namespace deepscale {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

int free_port() {
  return HostedStoreServer(StoreServerOptions{}).port();
}

std::string refusal(const WorldLayout& layout) {
  try {
    join_job_store(layout, Logger(), Deadline::after(30s));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "";
}

TEST(JobStore, RankZeroServesOnMasterPort) {
  for (const char* host : {"127.0.0.1", "localhost"}) {
    run_job_ranks(
        {.world_size = 4, .master_addr = host, .master_port = free_port()},
        [](const WorldLayout&, Store& store) { store_barrier(store, "here", 4, Deadline::after(30s)); });
  }
}

TEST(JobStore, ManyNodesMeetAtMasterAddr) {
  run_job_ranks({.world_size = 2, .node_count = 2, .master_addr = "127.0.0.1", .master_port = free_port()},
                [](const WorldLayout& layout, Store& store) {
                  store.set("rank/" + std::to_string(layout.rank), "1");
                  store.wait({"rank/0", "rank/1"}, Deadline::after(30s));
                });
}

TEST(JobStore, ALauncherThatServesIsOnlyConnectedTo) {
  HostedStoreServer launcher({});
  WorldLayout layout{.rank = 0, .world_size = 2, .generation = 3};
  layout.master_addr = "127.0.0.1";
  layout.master_port = launcher.port();
  layout.launcher_serves_store = true;
  const auto store = join_job_store(layout, Logger(), Deadline::after(30s));
  store->set("k", "v");
  const auto plain = connect_store("127.0.0.1", launcher.port(), Deadline::after(30s));
  EXPECT_EQ(plain->get("deepscale/3/k", Deadline::after(30s)), "v");
}

// A second attempt in torchrun's store finds nothing of the first.
TEST(JobStore, ARestartFindsAnEmptyStore) {
  HostedStoreServer launcher({});
  Environment environment;
  for (const auto& [name, value] :
       {std::pair("RANK", "0"), std::pair("WORLD_SIZE", "2"), std::pair("MASTER_ADDR", "127.0.0.1"),
        std::pair("TORCHELASTIC_USE_AGENT_STORE", "True")}) {
    environment.set(name, value);
  }
  environment.set("MASTER_PORT", std::to_string(launcher.port()));
  for (const char* attempt : {"0", "1"}) {
    environment.set("TORCHELASTIC_RESTART_COUNT", attempt);
    const auto store =
        join_job_store(WorldLayout::from_environment(environment), Logger(), Deadline::after(30s));
    EXPECT_EQ(store->add("rank 0 was here", 1), 1) << "attempt " << attempt;
  }
}

// Rank 0 is done first and leaves; the others still need the store then.
TEST(JobStore, RankZeroLeavesLast) {
  std::promise<void> rank_zero_is_leaving;
  auto leaving = rank_zero_is_leaving.get_future().share();
  run_job_ranks({.world_size = 3, .master_addr = "127.0.0.1", .master_port = free_port()},
                [&](const WorldLayout& layout, Store& store) {
                  if (layout.rank == 0) return rank_zero_is_leaving.set_value();
                  leaving.wait();
                  store_barrier(store, "others", 2, Deadline::after(30s));
                });
}

// What rank 0 says after the limit in a job of three of which rank 2 does not come.
std::string complaint_of_rank_zero(Clock::duration limit) {
  WorldLayout layout{.rank = 1, .world_size = 3, .master_addr = "127.0.0.1", .master_port = free_port()};
  auto rank_one = std::async(std::launch::async, [=] {
    EXPECT_THROW(join_job_store(layout, Logger(), Deadline::after(limit)), Error);
  });
  layout.rank = 0;
  try {
    join_job_store(layout, Logger(), Deadline::after(limit));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTimeout);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(layout.master_port)));
    return error.what();
  }
  return "rank 2 is missing, and nobody says so";
}

TEST(JobStore, RankZeroTellsHowManyJoined) {
  std::string complaint = complaint_of_rank_zero(1s);
  // On a slow machine rank 1 needs more time.
  if (complaint.find("1 of 3") != std::string::npos) complaint = complaint_of_rank_zero(20s);
  EXPECT_THAT(complaint, HasSubstr("2 of 3"));
}

TEST(JobStore, TwoJobsInOneStoreAreTold) {
  auto elsewhere = std::make_unique<HostedStoreServer>(StoreServerOptions{});
  const WorldLayout layout{
      .rank = 1, .world_size = 3, .master_addr = "127.0.0.1", .master_port = elsewhere->port()};
  // Its rank 0 never comes.
  auto other_job = std::async(std::launch::async, [layout] {
    EXPECT_THROW(join_job_store(layout, Logger(), Deadline::after(60s)), Error);
  });
  connect_store("127.0.0.1", elsewhere->port(), Deadline::after(30s))
      ->wait({"deepscale/0/join/count"}, Deadline::after(30s));
  EXPECT_THAT(refusal(layout), HasSubstr("rank 1 joined"));
  elsewhere.reset();
}

TEST(JobStore, SaysWhatToSet) {
  EXPECT_THAT(refusal({.world_size = 1}), HasSubstr("one rank"));
  EXPECT_THAT(refusal({.world_size = 2, .master_addr = "here"}),
              HasSubstr("only one of MASTER_ADDR and MASTER_PORT"));
  EXPECT_THAT(refusal({.world_size = 2, .master_port = 1}),
              HasSubstr("only one of MASTER_ADDR and MASTER_PORT"));
  EXPECT_THAT(refusal({.world_size = 2, .node_count = 2}), HasSubstr("2 nodes"));
  EXPECT_THAT(refusal({.world_size = 2, .launcher_serves_store = true}),
              HasSubstr("TORCHELASTIC_USE_AGENT_STORE"));
}

TEST(JobStore, APortInUseIsTold) {
  HostedStoreServer elsewhere({});
  const WorldLayout layout{.world_size = 2, .master_addr = "127.0.0.1", .master_port = elsewhere.port()};
  try {
    join_job_store(layout, Logger(), Deadline::after(30s));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kSystem);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(elsewhere.port())));
  }
}

}  // namespace
}  // namespace deepscale
