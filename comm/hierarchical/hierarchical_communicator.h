// The communicator of several hosts with several ranks each: shared memory within a host, tcp between hosts.
//
// Chosen by make_communicator(). What it does is in hierarchy.h. bf16 and fp16 are rounded once within the
// host and once between the hosts; all ranks get the same bits.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace deepscale {

// Blocks until all ranks have met. Error(kUnsupported) on all of them together when `layout` has not as many
// ranks, more than one, on each of several nodes, numbered host by host, or when those of one host cannot
// share memory.
std::unique_ptr<Communicator> make_hierarchical_communicator(const WorldLayout& layout,
                                                             std::shared_ptr<Store> store,
                                                             CommunicatorOptions options);

}  // namespace deepscale
