#include <windows.h>

#include <algorithm>
#include <string>
#include <vector>

#include "comm/base/text_encoding_windows.h"
#include "launcher/job/machine.h"

namespace deepscale {
namespace {

// Of the processor group that this process runs in: 64 logical processors at most.
std::vector<Core> usable_cores() {
  DWORD_PTR ours = 0;
  DWORD_PTR of_system = 0;
  GetProcessAffinityMask(GetCurrentProcess(), &ours, &of_system);
  DWORD bytes = 0;
  GetLogicalProcessorInformation(nullptr, &bytes);
  std::vector<SYSTEM_LOGICAL_PROCESSOR_INFORMATION> records(bytes /
                                                            sizeof(SYSTEM_LOGICAL_PROCESSOR_INFORMATION));
  if (GetLogicalProcessorInformation(records.data(), &bytes) == 0) records.clear();
  std::vector<Core> cores;
  for (const auto& record : records) {
    if (record.Relationship != RelationProcessorCore) continue;
    Core core;
    for (int processor = 0; processor < 64; ++processor) {
      if ((record.ProcessorMask & ours & (DWORD_PTR{1} << processor)) != 0)
        core.processors.push_back(processor);
    }
    if (core.processors.empty()) continue;
    UCHAR numa_node = 0;
    if (GetNumaProcessorNode(static_cast<UCHAR>(core.processors.front()), &numa_node) != 0 &&
        numa_node != 0xFF)
      core.numa_node = numa_node;
    cores.push_back(std::move(core));
  }
  std::stable_sort(cores.begin(), cores.end(),
                   [](const Core& one, const Core& other) { return one.numa_node < other.numa_node; });
  return cores.empty() ? Machine().cores : cores;
}

// The memory that is left, page file included, over what a process takes before it does anything.
int most_ranks_by_memory() {
  constexpr DWORDLONG kOfEachRank = 1 << 20;
  MEMORYSTATUSEX memory = {};
  memory.dwLength = sizeof memory;
  if (GlobalMemoryStatusEx(&memory) == 0) return Machine().most_ranks;
  const DWORDLONG most = std::max<DWORDLONG>(memory.ullAvailPageFile / kOfEachRank, 1);
  return static_cast<int>(std::min<DWORDLONG>(most, Machine().most_ranks));
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
  machine.cores = usable_cores();
  machine.most_ranks = most_ranks_by_memory();
  machine.what_limits_ranks = "1 MiB of memory and page file each, at least";
  machine.gpu_count = count_gpus();
  return machine;
}

// Windows tells no such place without NVML's help, and shares cores out in order.
void Machine::learn_gpu_places() {}

}  // namespace deepscale
