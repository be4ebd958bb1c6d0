// zero::Init: a scope in which a model is made without any rank ever holding all of it.
//
//   deepscale::JobConfig job = deepscale::join_job("ds_config.json");
//   deepscale::zero::Init scope(job.options.communicator);
//   auto model = std::make_shared<Model>();
//   auto engine = deepscale::initialize(model, job.config, job.options);
//
// The model is not changed for it. A callback of ATen sees the tensors that this thread makes; one that
// became a parameter (a leaf that requires a gradient) and has its first values gets rank 0's values on all
// ranks, and is then sharded: each rank keeps its slice. That happens when a later operator runs that does
// not use it, so what is whole at a time is about a layer, and parameters below `persistence_threshold`. What
// the program does to a sharded parameter works, as long as all ranks do it alike (sharded_tensor.h); after a
// write all have rank 0's values again.
//
// With InitOptions::of(job.config) the slices lie in a file where the config says so for the Engine's, so
// that no model has to fit into memory. Room of the file is not used again; it ends with the scope.
//
// The scope must live until the Engine has taken the parameters over; those that none took are left without
// memory. From then on it changes nothing that is made, so that a second model wants a scope of its own,
// after the end of the first. In a world of one it does nothing, unless a file is wanted.
//
// Threads: that of the constructor, one scope at a time: Error(kInvalidArgument). Error(kSystem) for a folder
// that cannot be used. Collective throughout. A callback cannot throw: what went wrong aborts the
// communicator, and is thrown by the Engine's constructor, or by rethrow_failure(). Follows the interface of
// DeepSpeed's zero.Init.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "runtime/config/config.h"

namespace deepscale::zero {

struct InitOptions {
  std::int64_t persistence_threshold = 100'000;  // elements; a smaller parameter stays whole
  std::string nvme_path;                         // a folder for a file of each rank; empty: in memory

  // As zero_optimization says.
  static InitOptions of(const Config& config);
};

class Init {
 public:
  explicit Init(std::shared_ptr<Communicator> communicator, InitOptions options = {});
  ~Init();
  Init(const Init&) = delete;
  Init& operator=(const Init&) = delete;

  void rethrow_failure() const;
  // That this rank holds for sharded parameters now: slices, and what an operator uses.
  std::int64_t bytes() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;  // null in a world of one
};

}  // namespace deepscale::zero
