#include <windows.h>

#include "tests/agents/child_run.h"

namespace deepscale::testing {

bool is_alive(std::int64_t pid) {
  const HANDLE process = OpenProcess(SYNCHRONIZE, FALSE, static_cast<DWORD>(pid));
  if (process == nullptr) return false;
  const bool is_running = WaitForSingleObject(process, 0) == WAIT_TIMEOUT;
  CloseHandle(process);
  return is_running;
}

}  // namespace deepscale::testing
