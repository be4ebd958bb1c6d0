#include <windows.h>

#include <tlhelp32.h>

#include "tests/agents/child_run.h"

namespace deepscale::testing {

bool is_alive(std::int64_t pid) {
  const HANDLE process = OpenProcess(SYNCHRONIZE, FALSE, static_cast<DWORD>(pid));
  if (process == nullptr) return false;
  const bool is_running = WaitForSingleObject(process, 0) == WAIT_TIMEOUT;
  CloseHandle(process);
  return is_running;
}

void suspend_process(std::int64_t pid) {
  const HANDLE threads = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
  THREADENTRY32 entry = {};
  entry.dwSize = sizeof entry;
  for (BOOL more = Thread32First(threads, &entry); more; more = Thread32Next(threads, &entry)) {
    if (entry.th32OwnerProcessID != pid) continue;
    const HANDLE thread = OpenThread(THREAD_SUSPEND_RESUME, FALSE, entry.th32ThreadID);
    SuspendThread(thread);
    CloseHandle(thread);
  }
  CloseHandle(threads);
}

}  // namespace deepscale::testing
