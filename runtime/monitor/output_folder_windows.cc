#include <windows.h>

#include "comm/base/text_encoding_windows.h"
#include "runtime/monitor/output_folder.h"

namespace deepscale {

std::string name_of_this_host() {
  wchar_t name[MAX_COMPUTERNAME_LENGTH + 1];
  DWORD size = MAX_COMPUTERNAME_LENGTH + 1;
  return GetComputerNameW(name, &size) != 0 ? to_utf8(std::wstring_view(name, size)) : "localhost";
}

std::int64_t pid_of_this_process() {
  return static_cast<std::int64_t>(GetCurrentProcessId());
}

}  // namespace deepscale
