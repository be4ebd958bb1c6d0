#include <windows.h>

#include <string>

#include "comm/base/text_encoding_windows.h"
#include "launcher/job/machine.h"

namespace deepscale {
namespace {

int count_usable_cores() {
  DWORD_PTR of_process = 0;
  DWORD_PTR of_system = 0;
  if (GetProcessAffinityMask(GetCurrentProcess(), &of_process, &of_system) == 0) return 1;
  int count = 0;
  for (; of_process != 0; of_process &= of_process - 1) ++count;
  // Beyond 64 cores a process spans several groups and the mask is empty.
  return count > 0 ? count : static_cast<int>(GetActiveProcessorCount(ALL_PROCESSOR_GROUPS));
}

// NVML comes with the driver; a machine without it has no usable GPU.
int count_gpus() {
  const HMODULE library = LoadLibraryExW(L"nvml.dll", nullptr, LOAD_LIBRARY_SEARCH_SYSTEM32);
  if (library == nullptr) return 0;
  using Start = int (*)();
  using Count = int (*)(unsigned*);
  const auto start = reinterpret_cast<Start>(reinterpret_cast<void*>(GetProcAddress(library, "nvmlInit_v2")));
  const auto count_devices =
      reinterpret_cast<Count>(reinterpret_cast<void*>(GetProcAddress(library, "nvmlDeviceGetCount_v2")));
  const auto stop = reinterpret_cast<Start>(reinterpret_cast<void*>(GetProcAddress(library, "nvmlShutdown")));
  unsigned count = 0;
  if (start != nullptr && count_devices != nullptr && stop != nullptr && start() == 0) {
    if (count_devices(&count) != 0) count = 0;
    stop();
  }
  FreeLibrary(library);
  return static_cast<int>(count);
}

}  // namespace

Machine Machine::of_this() {
  Machine machine;
  wchar_t name[256] = {};
  DWORD units = 256;
  if (GetComputerNameExW(ComputerNameDnsHostname, name, &units) != 0)
    machine.host_name = to_utf8(std::wstring_view(name, units));
  machine.core_count = count_usable_cores();
  machine.gpu_count = count_gpus();
  return machine;
}

}  // namespace deepscale
