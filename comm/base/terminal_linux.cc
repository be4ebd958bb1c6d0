#include <unistd.h>

#include "comm/base/terminal.h"

namespace deepscale {

bool stderr_is_terminal() {
  return isatty(STDERR_FILENO) == 1;
}

}  // namespace deepscale
