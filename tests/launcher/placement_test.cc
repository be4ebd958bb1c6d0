#include "launcher/job/placement.h"

#include <fmt/core.h>

#include "tests/launcher/expect_error.h"

namespace deepscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<Host> kHosts = {{"a", {0, 1, 2, 3}}, {"b", {1}}, {"c", {0, 2}}};

TEST(Placement, HeterogeneousHostsGetConsecutiveRanks) {
  EXPECT_THAT(place_ranks(kHosts, {}),
              ElementsAre(NodePlacement{"a", 0, {0, 1, 2, 3}}, NodePlacement{"b", 4, {1}},
                          NodePlacement{"c", 5, {0, 2}}));
}

TEST(Placement, CountsTakeTheFirst) {
  EXPECT_THAT(place_ranks(kHosts, {.node_count = 1, .ranks_per_node = 2}),
              ElementsAre(NodePlacement{"a", 0, {0, 1}}));
}

TEST(Placement, TooMuchNamesBothNumbers) {
  EXPECT_THAT(message_of([] { place_ranks(kHosts, {.node_count = 4}); }),
              HasSubstr("--num_nodes 4 asks for more hosts than there are (3)"));
  EXPECT_THAT(message_of([] { place_ranks(kHosts, {.ranks_per_node = 2}); }),
              HasSubstr("--num_gpus 2 asks for more ranks than the 1 slots (GPUs) of host \"b\""));
}

TEST(Placement, OversubscribingTakesSlotsInTurn) {
  EXPECT_THAT(place_ranks(kHosts, {.node_count = 2, .ranks_per_node = 5, .oversubscribe = true}),
              ElementsAre(NodePlacement{"a", 0, {0, 1, 2, 3, 0}}, NodePlacement{"b", 5, {1, 1, 1, 1, 1}}));
}

TEST(Placement, PlacesTenThousandHosts) {
  std::string text, include;
  for (int i = 0; i < 10'000; ++i) {
    text += fmt::format("node-{} slots={}\n", i, 1 + i % 8);
    if (i % 2 == 0) include += fmt::format("{}node-{}", include.empty() ? "" : "@", i);
  }
  const auto nodes = place_ranks(filter_hosts(parse_hostfile(text, "hosts"), include, ""), {});
  ASSERT_EQ(nodes.size(), 5'000U);
  int next = 0;
  for (const NodePlacement& node : nodes) {
    ASSERT_EQ(node.first_rank, next);
    next += node.rank_count();
  }
  EXPECT_EQ(next, 5'000 * (1 + 3 + 5 + 7) / 4);
}

}  // namespace
}  // namespace deepscale::testing
