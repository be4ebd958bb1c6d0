#include "tests/agents/scoped_process_windows.h"

#include <windows.h>

#include <stdexcept>

#include "agents/process/command_line.h"
#include "comm/base/text_encoding_windows.h"
#include "tests/agents/child_run.h"

namespace deepscale::testing {
namespace {

void require(bool is_done, const char* what) {
  if (!is_done) throw std::runtime_error(std::string(what) + ": " + windows_error_text(GetLastError()));
}

}  // namespace

ScopedProcess::ScopedProcess(const std::string& program, const std::vector<std::string>& arguments)
    : scope_(CreateJobObjectW(nullptr, nullptr)) {
  SECURITY_ATTRIBUTES inheritable = {sizeof inheritable, nullptr, TRUE};
  HANDLE write_end = nullptr;
  require(CreatePipe(&output_, &write_end, &inheritable, 1 << 20), "CreatePipe");
  SetHandleInformation(output_, HANDLE_FLAG_INHERIT, 0);
  std::wstring line = to_wide(windows_command_line(program, arguments));
  STARTUPINFOW startup = {};
  startup.cb = sizeof startup;
  startup.dwFlags = STARTF_USESTDHANDLES;
  startup.hStdOutput = write_end;
  startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
  PROCESS_INFORMATION process = {};
  require(CreateProcessW(to_wide(program).c_str(), line.data(), nullptr, nullptr, TRUE, CREATE_SUSPENDED,
                         nullptr, nullptr, &startup, &process),
          "CreateProcess");
  process_ = process.hProcess;
  pid_ = process.dwProcessId;
  require(AssignProcessToJobObject(scope_, process_), "AssignProcessToJobObject");
  ResumeThread(process.hThread);
  CloseHandle(process.hThread);
  CloseHandle(write_end);
}

ScopedProcess::~ScopedProcess() {
  TerminateJobObject(scope_, 1);
  for (void* handle : {scope_, process_, output_}) CloseHandle(handle);
}

void ScopedProcess::terminate() {
  TerminateProcess(process_, 1);
}

std::optional<unsigned> ScopedProcess::wait(Clock::duration limit) {
  if (!wait_until([&] { return WaitForSingleObject(process_, 0) == WAIT_OBJECT_0; }, limit))
    return std::nullopt;
  DWORD code = 0;
  GetExitCodeProcess(process_, &code);
  return code;
}

int ScopedProcess::living_processes() const {
  JOBOBJECT_BASIC_ACCOUNTING_INFORMATION information = {};
  QueryInformationJobObject(scope_, JobObjectBasicAccountingInformation, &information, sizeof information,
                            nullptr);
  return static_cast<int>(information.ActiveProcesses);
}

std::string ScopedProcess::read_output() {
  std::string text;
  char bytes[4096];
  for (DWORD size = 0; PeekNamedPipe(output_, nullptr, 0, nullptr, &size, nullptr) && size > 0;) {
    if (!ReadFile(output_, bytes, sizeof bytes, &size, nullptr)) break;
    text.append(bytes, size);
  }
  return text;
}

void terminate_process(std::int64_t pid, unsigned exit_code) {
  const HANDLE process = OpenProcess(PROCESS_TERMINATE, FALSE, static_cast<DWORD>(pid));
  if (process == nullptr) return;
  TerminateProcess(process, exit_code);
  CloseHandle(process);
}

}  // namespace deepscale::testing
