#include <windows.h>

#include <fmt/core.h>

#include "agents/process/command_line.h"
#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"
#include "launcher/job/program_search.h"
#include "launcher/run/replace_process.h"

namespace deepscale {

int run_in_place(const std::string& name, const std::vector<std::string>& arguments) {
  const std::string path = own_folder() + "\\" + name + ".exe";
  std::wstring line = to_wide(windows_command_line(path, arguments));
  STARTUPINFOW startup = {};
  startup.cb = sizeof startup;
  PROCESS_INFORMATION process = {};
  if (CreateProcessW(to_wide(path).c_str(), line.data(), nullptr, nullptr, TRUE, 0, nullptr, nullptr,
                     &startup, &process) == 0) {
    const DWORD error = GetLastError();
    throw Error(error == ERROR_FILE_NOT_FOUND ? ErrorCode::kNotFound : ErrorCode::kSystem,
                fmt::format("cannot start {}: {} It belongs beside deepscale; is the build complete?", path,
                            windows_error_text(error)));
  }
  WaitForSingleObject(process.hProcess, INFINITE);
  DWORD exit_code = 1;
  GetExitCodeProcess(process.hProcess, &exit_code);
  CloseHandle(process.hThread);
  CloseHandle(process.hProcess);
  return static_cast<int>(exit_code);
}

}  // namespace deepscale
