#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "comm/store/store.h"

namespace deepscale {
namespace {

TEST(StoreRendezvous, WindowsSaysWhatToSet) {
  for (const int rank : {0, 1}) {
    try {
      join_job_store({.rank = rank, .world_size = 2}, Logger(), Deadline::after(std::chrono::seconds(30)));
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      EXPECT_THAT(error.what(), testing::HasSubstr("MASTER_ADDR"));
    }
  }
}

}  // namespace
}  // namespace deepscale
