#include "tests/agents/scoped_process_windows.h"

#include <windows.h>

#include <psapi.h>

#include <algorithm>
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

// Only those that the system knows of, too: Wine keeps one whose creator was terminated half-way in its job
// for ever, though it never gets a thread.
int ScopedProcess::living_processes() const {
  struct {
    DWORD assigned;
    DWORD count;
    ULONG_PTR pids[256];
  } job = {};
  require(QueryInformationJobObject(scope_, JobObjectBasicProcessIdList, &job, sizeof job, nullptr),
          "QueryInformationJobObject");
  DWORD known[4096];
  DWORD bytes = 0;
  require(K32EnumProcesses(known, sizeof known, &bytes), "EnumProcesses");
  const DWORD* const begin = known;
  const DWORD* const end = known + bytes / sizeof(DWORD);
  return static_cast<int>(std::count_if(job.pids, job.pids + job.count, [&](ULONG_PTR pid) {
    return std::find(begin, end, static_cast<DWORD>(pid)) != end;
  }));
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
