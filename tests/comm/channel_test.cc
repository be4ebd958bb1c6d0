// How a channel of the tcp backend takes the events of a connection, in an order that sockets show rarely.
#include "comm/tcp/channel.h"

#include <gmock/gmock.h>

namespace deepscale::tcp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A connection on which the test moves the bytes.
class HeldConnection final : public Connection {
 public:
  void read_some(std::span<std::byte>, Handler handler) override { read = std::move(handler); }
  void write_some(std::span<const std::byte> first, std::span<const std::byte> second,
                  Handler handler) override {
    written_bytes = first.size() + second.size();
    write = std::move(handler);
  }
  void cancel() override {}
  void end_writing() override {}
  void close() override {}

  Handler read, write;
  std::size_t written_bytes = 0;
};

class Witness final : public Channel::Owner {
 public:
  void transfer_finished(Operation&) override { ++finished; }
  void peer_lost(int, const Operation&, const std::string& why) override { losses.push_back(why); }
  void ranks_disagree(int, const Operation&, const MessageHeader&) override {}
  void io_returned() override {}

  int finished = 0;
  std::vector<std::string> losses;
};

class ClosedWhileWriting : public ::testing::Test {
 protected:
  ClosedWhileWriting() {
    channel.continue_receiving();
    channel.send(operation.add_transfer({.data = values.data(), .count = 4}));
    connection->read("it closed the connection", 0);
  }

  std::vector<float> values = std::vector<float>(4);
  Operation operation{MessageHeader{}, Deadline::after(std::chrono::minutes(1))};
  Witness witness;
  HeldConnection* connection = new HeldConnection;  // the channel's
  Channel channel{1, std::unique_ptr<Connection>(connection), witness};
};

// A peer that has received everything may leave before this rank hears that its last write has returned.
TEST_F(ClosedWhileWriting, IsNoLossWhenTheWriteFinishesTheTransfer) {
  EXPECT_THAT(witness.losses, IsEmpty());
  connection->write("", connection->written_bytes);
  EXPECT_EQ(witness.finished, 1);
  EXPECT_THAT(witness.losses, IsEmpty());
}

TEST_F(ClosedWhileWriting, IsALossWhenTheWriteFails) {
  connection->write("connection reset", 0);
  EXPECT_THAT(witness.losses, ElementsAre("it closed the connection"));
}

TEST_F(ClosedWhileWriting, IsALossWhenTheWriteLeavesARest) {
  connection->write("", connection->written_bytes - 1);
  EXPECT_THAT(witness.losses, ElementsAre("it closed the connection"));
}

}  // namespace
}  // namespace deepscale::tcp
