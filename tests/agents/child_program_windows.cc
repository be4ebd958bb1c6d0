#include "tests/agents/child_program.h"

#include <windows.h>

#include <fcntl.h>
#include <io.h>

#include <cstdlib>
#include <string>

namespace deepscale::testing {
namespace {

int exit_code_at_stop = 0;

BOOL WINAPI exit_now(DWORD) {
  ExitProcess(static_cast<UINT>(exit_code_at_stop));
}
BOOL WINAPI ignore(DWORD) {
  return TRUE;
}

}  // namespace

void use_binary_output() {
  _setmode(1, _O_BINARY);
  _setmode(2, _O_BINARY);
}

long long process_id() {
  return GetCurrentProcessId();
}

void ignore_stop_requests() {
  SetConsoleCtrlHandler(ignore, TRUE);
}

void exit_at_stop_request(int code) {
  exit_code_at_stop = code;
  SetConsoleCtrlHandler(exit_now, TRUE);
}

void close_output() {
  _close(1);
  _close(2);
  CloseHandle(GetStdHandle(STD_OUTPUT_HANDLE));
  CloseHandle(GetStdHandle(STD_ERROR_HANDLE));
}

void stop_this_process() {}

void crash() {
  SetErrorMode(SEM_NOGPFAULTERRORBOX | SEM_FAILCRITICALERRORS);
  RaiseException(EXCEPTION_ACCESS_VIOLATION, EXCEPTION_NONCONTINUABLE, 0, nullptr);
  std::_Exit(99);
}

long long start_grandchild(const char* program, Grandchild kind) {
  std::string line = '"' + std::string(program) + "\" hang";
  STARTUPINFOA startup = {};
  startup.cb = sizeof startup;
  startup.dwFlags = STARTF_USESTDHANDLES;
  startup.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
  startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
  PROCESS_INFORMATION process = {};
  const DWORD flags = kind == Grandchild::kPlain ? 0 : DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP;
  if (!CreateProcessA(program, line.data(), nullptr, nullptr, TRUE, flags, nullptr, nullptr, &startup,
                      &process)) {
    std::_Exit(98);
  }
  CloseHandle(process.hThread);
  CloseHandle(process.hProcess);
  return process.dwProcessId;
}

}  // namespace deepscale::testing
