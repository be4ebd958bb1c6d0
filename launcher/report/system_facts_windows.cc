#include <windows.h>

#include <fmt/core.h>

#include "comm/base/text_encoding_windows.h"
#include "launcher/report/system_facts.h"

namespace deepscale {
namespace {

std::string registry_text(const wchar_t* key, const wchar_t* name) {
  wchar_t text[256] = {};
  DWORD bytes = sizeof text;
  const LSTATUS status = RegGetValueW(HKEY_LOCAL_MACHINE, key, name, RRF_RT_REG_SZ, nullptr, text, &bytes);
  return status == ERROR_SUCCESS ? to_utf8(text) : std::string();
}

}  // namespace

SystemFacts read_system_facts() {
  SystemFacts facts;
  constexpr const wchar_t* kVersionKey = L"SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion";
  facts.system = fmt::format("{} (build {})", registry_text(kVersionKey, L"ProductName"),
                             registry_text(kVersionKey, L"CurrentBuild"));
  facts.processor =
      registry_text(L"HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0", L"ProcessorNameString");
  MEMORYSTATUSEX memory{};
  memory.dwLength = sizeof memory;
  if (GlobalMemoryStatusEx(&memory) != 0) {
    facts.memory_bytes = memory.ullTotalPhys;
    facts.available_memory_bytes = memory.ullAvailPhys;
    facts.shared_memory_bytes = memory.ullTotalPageFile;  // the commit limit: memory and page files together
  }
  facts.shared_memory_place = "commit limit";
  facts.shared_memory_remedy = "make the page file larger";
  facts.asynchronous_io = "overlapped I/O, unbuffered";
  return facts;
}

}  // namespace deepscale
