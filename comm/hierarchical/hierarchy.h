// The steps of a collective among several hosts with as many ranks each.
//
//                    within the host          between the hosts            within the host
//   all_reduce       reduce_scatter           all_reduce of the own part   all_gather
//   reduce_scatter   reduce_scatter           reduce_scatter
//   all_gather                                all_gather                   all_gather
//   broadcast                                 broadcast by the peers of the root's place, then within
//   all_to_all       all_to_all by place      all_to_all
//   barrier          barrier                  barrier
//
// A rank's place is its number within its host; between the hosts those of the same place talk, so every byte
// crosses the network once for each host instead of once for each rank. Large all_reduces go in pieces, so
// that both ways are busy at the same time.
//
// All functions but send(), receive() and abort() block until done, and belong to one thread; those belong to
// any. An Error says among which ranks it happened.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace deepscale::hierarchical {

// Rank r is on host r / ranks_per_host, at the place r % ranks_per_host.
struct Shape {
  int rank = 0;
  int ranks_per_host = 1;
  int hosts = 1;
  int place() const { return rank % ranks_per_host; }
  int host() const { return rank / ranks_per_host; }
  int size() const { return ranks_per_host * hosts; }
};

class Hierarchy {
 public:
  struct Parts {
    std::unique_ptr<Communicator> within;   // the ranks of this host
    std::unique_ptr<Communicator> between;  // those of this place on all hosts
    std::unique_ptr<Communicator> all;      // for messages between hosts, and what has no steps
  };
  Hierarchy(Shape shape, Parts parts) : shape_(shape), parts_(std::move(parts)) {}

  const Shape& shape() const { return shape_; }

  void all_reduce(const Buffer& buffer, ReduceOp op);
  void reduce_scatter(const Buffer& input, const Buffer& output, ReduceOp op);
  void all_gather(const Buffer& input, const Buffer& output);
  void broadcast(const Buffer& buffer, int root);
  void all_to_all(const Buffer& input, const Buffer& output);
  void barrier();
  std::shared_ptr<std::byte> allocate_shared(std::size_t bytes);

  Work send(const Buffer& buffer, int destination);
  Work receive(const Buffer& buffer, int source);
  void abort(const std::string& reason);

 private:
  using Start = std::function<Work(Communicator&)>;

  Work start(Communicator& part, const Start& start);
  void finish(const Communicator& part, Work work);
  void run(Communicator& part, const Start& begin) { finish(part, start(part, begin)); }
  void all_reduce_in_pieces(const Buffer& buffer, ReduceOp op);
  void all_reduce_whole(const Buffer& buffer, ReduceOp op);
  std::string members_of(const Communicator& part) const;

  const Shape shape_;
  const Parts parts_;
  std::mutex starting_;  // operations are started on a part by one thread at a time
};

}  // namespace deepscale::hierarchical
