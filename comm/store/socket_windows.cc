#include <winsock2.h>
// after winsock2.h
#include <windows.h>

#include "comm/store/socket.h"

namespace deepscale {

void keep_from_children(NativeSocket socket) {
  SetHandleInformation(reinterpret_cast<HANDLE>(socket), HANDLE_FLAG_INHERIT, 0);
}

// SO_REUSEADDR means something else here: it lets two servers share a port.
void claim_address(NativeSocket socket) {
  const BOOL on = TRUE;
  setsockopt(static_cast<SOCKET>(socket), SOL_SOCKET, SO_EXCLUSIVEADDRUSE, reinterpret_cast<const char*>(&on),
             sizeof(on));
}

}  // namespace deepscale
