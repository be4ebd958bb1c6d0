#include "comm/store/socket.h"

#include <fcntl.h>
#include <sys/socket.h>

namespace deepscale {

void keep_from_children(NativeSocket socket) {
  ::fcntl(static_cast<int>(socket), F_SETFD, FD_CLOEXEC);
}

void claim_address(NativeSocket socket) {
  const int on = 1;
  ::setsockopt(static_cast<int>(socket), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

}  // namespace deepscale
