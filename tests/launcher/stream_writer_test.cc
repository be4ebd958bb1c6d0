#include "launcher/run/stream_writer.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>

namespace deepscale::testing {
namespace {

TEST(StreamWriter, TellsOnceWhenItIsIdle) {
  const auto idle = std::make_shared<std::promise<void>>();
  StreamWriter writer(StandardStream::kOut, [idle] { idle->set_value(); });  // a second call would throw
  EXPECT_TRUE(writer.is_idle());
  EXPECT_TRUE(writer.append("[ a line of the writer's test ]\n"));
  writer.call_when_idle();
  ASSERT_EQ(idle->get_future().wait_for(std::chrono::seconds(50)), std::future_status::ready);
  EXPECT_TRUE(writer.is_idle());
}

TEST(StreamWriter, AnUnusedOneIsIdleAtOnce) {
  int calls = 0;
  StreamWriter writer(StandardStream::kErr, [&] { ++calls; });
  writer.call_when_idle();
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace deepscale::testing
