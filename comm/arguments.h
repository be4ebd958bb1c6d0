// The checks of arguments that all communicators share.
//
// Each throws Error(kInvalidArgument), or kUnsupported for a device that the backend does not take, and names
// the rank and the operation. They look at this rank's own arguments only; whether the ranks agree with each
// other is for the backend to see.
#pragma once

#include "comm/communicator.h"

namespace deepscale {

// A rank of a world, and a store where there are several. Names the backend.
void check_world(const char* backend, int rank, int world_size, const Store* store);

// A pointer where there are elements, a count that is not negative, a device that `communicator` takes.
void check_buffer(const Communicator& communicator, const char* operation, const Buffer& buffer);

// `whole` has one slice like `slice` for every rank.
void check_whole_and_slice(const Communicator& communicator, const char* operation, const Buffer& whole,
                           const Buffer& slice);

// Both have the same dtype and count, which every rank gets an equal share of.
void check_equal_shares(const Communicator& communicator, const char* operation, const Buffer& input,
                        const Buffer& output);

// `root` is a rank.
void check_root(const Communicator& communicator, const char* operation, int root);

// `peer` is a rank other than the caller's.
void check_peer(const Communicator& communicator, const char* operation, int peer);

}  // namespace deepscale
