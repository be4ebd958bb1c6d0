// group_by_module: along the module tree, no larger than asked, every parameter in one group.
#include "runtime/zero/module_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deepscale {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::vector<std::string> kNames = {
    "embed.weight",         "layers.0.linear.weight",  "layers.0.linear.bias",
    "layers.0.norm.weight", "layers.1.linear.weight",  "layers.1.linear.bias",
    "layers.1.norm.weight", "layers.10.linear.weight", "head"};
const std::vector<std::int64_t> kNumels = {50, 10, 1, 1, 10, 1, 1, 10, 5};

TEST(ModuleGroups, ASmallModelIsOneGroup) {
  EXPECT_THAT(group_by_module(kNames, kNumels, 89), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0));
}

TEST(ModuleGroups, RepeatedBlocksAreGroups) {
  EXPECT_THAT(group_by_module(kNames, kNumels, 12), ElementsAre(0, 1, 1, 1, 2, 2, 2, 3, 4));
}

TEST(ModuleGroups, AChildThatIsSmallEnoughStaysWhole) {
  EXPECT_THAT(group_by_module(kNames, kNumels, 34), ElementsAre(0, 1, 1, 1, 1, 1, 1, 1, 2));
}

TEST(ModuleGroups, CutsDownToSingleParameters) {
  EXPECT_THAT(group_by_module(kNames, kNumels, 1), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
}

TEST(ModuleGroups, OfNothing) {
  EXPECT_THAT(group_by_module({}, {}, 10), IsEmpty());
}

}  // namespace
}  // namespace deepscale
