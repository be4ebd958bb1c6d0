#include <windows.h>
// after windows.h
#include <tlhelp32.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "agents/link/stack_dump.h"
#include "comm/base/text_encoding_windows.h"

namespace deepscale {
namespace {

constexpr std::size_t kMostFrames = 64;

struct Stack {
  std::array<std::uintptr_t, kMostFrames> frames;
  std::size_t size = 0;
};

// The thread is suspended, and may hold any lock: nothing here allocates memory.
void walk(CONTEXT& context, Stack& stack) {
  while (stack.size < kMostFrames && context.Rip != 0) {
    stack.frames[stack.size++] = context.Rip;
    DWORD64 image = 0;
    RUNTIME_FUNCTION* function = RtlLookupFunctionEntry(context.Rip, &image, nullptr);
    if (function == nullptr) {  // a leaf: the return address is on top
      SIZE_T read = 0;
      DWORD64 next = 0;
      if (ReadProcessMemory(GetCurrentProcess(), reinterpret_cast<const void*>(context.Rsp), &next,
                            sizeof next, &read) == 0)
        return;
      context.Rip = next;
      context.Rsp += sizeof next;
      continue;
    }
    void* handler_data = nullptr;
    DWORD64 frame = 0;
    RtlVirtualUnwind(UNW_FLAG_NHANDLER, image, context.Rip, function, &context, &handler_data, &frame,
                     nullptr);
  }
}

bool read_stack(DWORD thread_id, Stack& stack) {
  const HANDLE thread =
      OpenThread(THREAD_SUSPEND_RESUME | THREAD_GET_CONTEXT | THREAD_QUERY_INFORMATION, FALSE, thread_id);
  if (thread == nullptr) return false;
  const bool is_suspended = SuspendThread(thread) != static_cast<DWORD>(-1);
  CONTEXT context = {};
  context.ContextFlags = CONTEXT_FULL;
  const bool is_known = is_suspended && GetThreadContext(thread, &context) != 0;
  if (is_known) walk(context, stack);
  if (is_suspended) ResumeThread(thread);
  CloseHandle(thread);
  return is_known;
}

// The oldest thread, which is the main one, last.
std::vector<DWORD> other_threads() {
  std::vector<DWORD> threads;
  const HANDLE snapshot = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
  if (snapshot == INVALID_HANDLE_VALUE) return threads;
  THREADENTRY32 entry = {};
  entry.dwSize = sizeof entry;
  for (BOOL more = Thread32First(snapshot, &entry); more != 0; more = Thread32Next(snapshot, &entry)) {
    if (entry.th32OwnerProcessID == GetCurrentProcessId() && entry.th32ThreadID != GetCurrentThreadId())
      threads.insert(threads.begin(), entry.th32ThreadID);
  }
  CloseHandle(snapshot);
  return threads;
}

std::string describe(std::uintptr_t address) {
  HMODULE module = nullptr;
  constexpr DWORD kFlags =
      GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
  if (GetModuleHandleExW(kFlags, reinterpret_cast<LPCWSTR>(address), &module) == 0)
    return fmt::format("[{:#x}]\n", address);
  std::array<wchar_t, MAX_PATH> path = {};
  const DWORD size = GetModuleFileNameW(module, path.data(), static_cast<DWORD>(path.size()));
  return fmt::format("{}(+{:#x}) [{:#x}]\n", to_utf8({path.data(), size}),
                     address - reinterpret_cast<std::uintptr_t>(module), address);
}

}  // namespace

void install_stack_dump() {}  // Windows has no such signal; the link asks for it

void dump_stacks() {
  for (const DWORD thread : other_threads()) {
    Stack stack;
    if (!read_stack(thread, stack)) continue;
    std::string text = fmt::format("deepscale: stack of thread {}:\n", thread);
    for (std::size_t i = 0; i < stack.size; ++i) text += describe(stack.frames[i]);
    DWORD written = 0;
    WriteFile(GetStdHandle(STD_ERROR_HANDLE), text.data(), static_cast<DWORD>(text.size()), &written,
              nullptr);
  }
}

}  // namespace deepscale
