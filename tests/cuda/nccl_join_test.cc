// A rank that never comes must not keep the others for ever, with the real NCCL either.
#include <gtest/gtest.h>

#include "comm/base/error.h"
#include "comm/nccl/device_queue.h"
#include "tests/cuda/need_gpu.h"

namespace deepscale {
namespace {

TEST(NcclJoin, EndsAtTheTimeout) {
  DEEPSCALE_NEED_GPU();
  const auto device = std::make_shared<cuda::Device>("", 0);
  const auto api = std::make_shared<nccl::Api>("");
  nccl::UniqueId id;
  ASSERT_EQ(api->get_unique_id(&id), nccl::kSuccess);
  try {
    nccl::DeviceQueue queue(
        {.device = device, .api = api, .rank = 0, .size = 2, .id = id, .timeout = std::chrono::seconds(3)});
    FAIL() << "a communicator of two ranks with one";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kTimeout) << error.what();
  }
}

}  // namespace
}  // namespace deepscale
