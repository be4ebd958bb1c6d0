#include <windows.h>

#include "comm/base/terminal.h"

namespace deepscale {

bool stderr_is_terminal() {
  DWORD mode = 0;
  return GetConsoleMode(GetStdHandle(STD_ERROR_HANDLE), &mode) != 0;
}

}  // namespace deepscale
