// Reduces a slice while the peers' parts of it still arrive.
//
// Every peer's bytes come into a ring of a few chunks. When a chunk has come from all of them it is reduced,
// in order of rank, into the output; that makes room in the rings and, in all_reduce, lets the sends of the
// result move on. So memory is bounded and the network, the reduction and the way back overlap. Belongs to
// the communicator's thread. The buffers of the caller and the transfers outlive it.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/tcp/channel.h"
#include "comm/tcp/operation.h"

namespace deepscale::tcp {

class StreamingReduction {
 public:
  // `own` is this rank's part and has as many elements as `output`; both may be the same memory.
  StreamingReduction(Buffer own, Buffer output, ReduceOp op);

  // In order of rank: this rank's own part, or what a peer sends. Sets where the transfer puts its bytes.
  void add_own();
  void add_peer(Channel& channel, Transfer& receive);
  // A send of `output`, which moves only as far as the reduction has come.
  void add_result(Channel& channel, Transfer& send);

  // Reduces what has come from everybody.
  void advance();

 private:
  struct Link {
    Channel* channel;
    Transfer* transfer;
  };

  std::size_t bytes_from_everybody() const;
  void reduce_chunk(std::size_t bytes);

  const Buffer own_;
  const Buffer output_;
  const ReduceOp op_;
  const std::size_t total_;
  const std::size_t window_;
  std::size_t reduced_ = 0;
  std::vector<const std::byte*> parts_;  // in order of rank; of a peer, its ring; null stands for our own
  std::vector<std::unique_ptr<std::byte[]>> rings_;
  std::vector<Link> receives_;
  std::vector<Link> results_;
};

}  // namespace deepscale::tcp
