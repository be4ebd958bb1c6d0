// What a socket of the store needs from the system besides Asio. A socket is its native handle.
#pragma once

#include <cstdint>

namespace deepscale {

using NativeSocket = std::uintptr_t;

// A child process that this one starts does not get the socket: else it would hold the port, or keep a peer
// from seeing the connection end, for as long as it lives.
void keep_from_children(NativeSocket socket);

// Before bind: a server that was restarted may listen at once on the port of the one before; two at a time
// may not share it.
void claim_address(NativeSocket socket);

}  // namespace deepscale
