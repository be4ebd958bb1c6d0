// The communicator of ranks that have a GPU each: NCCL for CUDA buffers, another communicator for CPU buffers
// and barriers.
//
// CUDA buffers: operations run on a stream of their own, after what Buffer::stream holds; Work::wait_on()
// orders a stream behind them without stopping the host. They are in the order of their calls, sends and
// receives apart from the order of collectives. NCCL sums in an order and a precision of its own, and does
// not see whether ranks agree about counts and dtypes: they wait for each other until the timeout.
//
// Sends and receives that start together end together (device_queue.h): a rank posts the receives for what
// its peer sends before it waits. A barrier says that all ranks have called it, not that their GPUs are
// there.
//
// When one side fails, the other one does too. A rank that gave up is told to its peers through the store
// within a second or two; one that was killed shows when the launcher ends the job, else at the timeout.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"

namespace deepscale {

struct NcclOptions {
  int device = 0;  // CUDA device of this rank, as this process counts them
  Clock::duration timeout = std::chrono::minutes(30);
  std::string name = "world";  // key in the store; unique per communicator
  std::string nccl_library;    // path; empty: libnccl.so.2 of this process or of the system
  std::string driver_library;  // path; empty: the NVIDIA driver
};

// All ranks of `host` call it together. `store` carries the news that a rank gave up; it may be null.
// Error(kUnsupported) on all ranks alike, saying which rank and why: one has no GPU, driver or NCCL, or two
// share a GPU; `host` is as before then. Any other Error is final for the job.
std::unique_ptr<Communicator> make_nccl_communicator(std::shared_ptr<Communicator> host,
                                                     std::shared_ptr<Store> store,
                                                     const NcclOptions& options);

// What make_communicator() makes, with NCCL for CUDA buffers where the ranks can have it and unless
// options.backend names another; "nccl" there makes it an error when they cannot. Rank 0 says in one line how
// CUDA buffers will travel. Takes the timeout and the name from `options`.
std::shared_ptr<Communicator> make_device_communicator(const WorldLayout& layout,
                                                       std::shared_ptr<Store> store,
                                                       CommunicatorOptions options, NcclOptions nccl);

}  // namespace deepscale
