// Gathers sharded parameters at the operator that uses them, in an unmodified model (ZeRO stage 3).
//
// A unit is gathered before an operator uses one of its parameters (sharded_tensor.h), and stays at least
// until the operator has ended. GatherSchedule decides what is gathered ahead and what is released. What an
// operator writes to a parameter (an initialisation, say) goes into the shard.
//
// So reading a parameter outside the model, `parameter.sum()`, gathers too, and is a collective: all ranks
// must do it. When a gather or a write fails, that is final: the communicator is aborted, so that no rank
// waits for this one, operators read zeros from then on, and rethrow_failure() throws what happened first.
//
// Ownership: the parameters, shards and collectives must outlive it; when it ends, the parameters are left
// without memory. Threads: operators may run on any thread, one at a time for the parameters of one gatherer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "runtime/engine/first_failure.h"
#include "runtime/engine/parameter_slice.h"
#include "runtime/engine/sharded_tensor.h"
#include "runtime/engine/tensor_collectives.h"
#include "runtime/zero/gather_schedule.h"

namespace deepscale {

class ParameterGatherer final : public ShardOwner {
 public:
  struct Member {
    at::Tensor parameter;
    std::int64_t offset;  // in the unit, in elements
  };
  // What is gathered by one all-gather. `shard` is this rank's slice of it, [unit numel / world size]. Where
  // it lives in a file, reading begins when the unit is to be gathered, and the all-gather when it is used.
  struct UnitOptions {
    ParameterSlice shard;
    std::vector<Member> members;
    bool is_persistent = false;  // gathered all the time
    // An operator wrote to a member; these are the shard's new values, flat, which it gets next.
    std::function<void(const at::Tensor& values)> on_written;
  };

  ParameterGatherer(TensorCollectives& collectives, GatherLimits limits);
  ~ParameterGatherer() override;
  ParameterGatherer(const ParameterGatherer&) = delete;
  ParameterGatherer& operator=(const ParameterGatherer&) = delete;

  // Before start(). The members' data are tensors without memory, of the shard's dtype.
  void add_unit(UnitOptions options);
  // Operators gather from now on. Collective where units are persistent.
  void start();
  // The shards have changed: what is gathered is gathered again, where it is. Collective.
  void refresh();
  void rethrow_failure() override;

  std::int64_t gathered_bytes() const;

  // Gathered until as many calls of unpin(): operators that use it meanwhile change nothing, so that one rank
  // may read and write it alone. Collective, both. What was written goes into the shard.
  void pin(int unit) override;
  void unpin(int unit, bool was_written) override;
  void begin_use(int unit) override;
  void end_use(int unit, bool was_written) override;

 private:
  struct Unit;

  void begin_use_locked(int unit);
  void give_zeros(Unit& unit);
  void write_back(Unit& unit);
  void gather_persistent();
  void gather(Unit& unit);
  void start_all_gathers(Unit& last);
  void stop_gathering(Unit& unit);
  void wait(Unit& unit);
  void release(Unit& unit);
  void attach(Unit& unit);
  at::Tensor take_memory(const Unit& unit);
  at::Tensor own_part(const Unit& unit) const;

  TensorCollectives& collectives_;
  const GatherLimits limits_;
  std::deque<Unit> units_;                  // a deque: storages point to its elements
  std::optional<GatherSchedule> schedule_;  // never asked about what is persistent
  std::deque<Unit*> fetching_;              // in the order in which their all-gathers start, on all ranks
  std::vector<at::Tensor> spares_;          // memory of what one use released, for what it gathers
  FirstFailure failure_;
  mutable std::mutex mutex_;
};

}  // namespace deepscale
