#include "comm/base/suggest.h"

#include <gtest/gtest.h>

namespace deepscale {
namespace {

const std::vector<std::string> kNames = {"num_gpus", "num_nodes", "hostfile", "stage"};

TEST(Suggest, FindsTheNearestName) {
  EXPECT_EQ(suggest("num_gpu", kNames), "num_gpus");
  EXPECT_EQ(suggest("num-gpsu", kNames), "num_gpus");
  EXPECT_EQ(suggest("NumNodes", kNames), "num_nodes");
  EXPECT_EQ(suggest("stgae", kNames), "stage");
}

TEST(Suggest, SaysNothingAboutWhatIsFarAway) {
  EXPECT_EQ(suggest("banana", kNames), std::nullopt);
  EXPECT_EQ(suggest("", kNames), std::nullopt);
  EXPECT_EQ(suggest(std::string(100000, 'x'), kNames), std::nullopt);
}

TEST(Suggest, DidYouMeanEndsAMessage) {
  EXPECT_EQ(did_you_mean("hostfiel", kNames), " Did you mean \"hostfile\"?");
  EXPECT_EQ(did_you_mean("banana", kNames), "");
}

}  // namespace
}  // namespace deepscale
