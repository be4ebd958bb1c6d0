#include "agents/process/exec_image_windows.h"

#include <windows.h>

#include <fmt/core.h>

#include <filesystem>
#include <limits>

#include "agents/process/command_line.h"
#include "comm/base/text_encoding_windows.h"

namespace deepscale {
namespace {

std::wstring find_program(const ChildProcess::Options& options) {
  const std::wstring program = to_wide(options.program);
  const bool is_path = program.find_first_of(L"/\\") != std::wstring::npos;
  // A path is looked for from our folder, a name in the PATH of the child; both with and without ".exe".
  const std::wstring folders = is_path ? L"." : to_wide(options.environment.get_or("PATH", ""));
  wchar_t found[32768];
  const DWORD size = program.empty() ? 0
                                     : SearchPathW(folders.c_str(), program.c_str(), L".exe",
                                                   static_cast<DWORD>(std::size(found)), found, nullptr);
  if (size > 0 && size < std::size(found)) return std::wstring(found, size);
  throw Error(ErrorCode::kNotFound,
              fmt::format("cannot start '{}': there is no such program{}", options.program,
                          is_path ? "" : " in PATH (" + options.environment.get_or("PATH", "") + ")"));
}

std::wstring working_directory(const ChildProcess::Options& options) {
  const auto directory = options.working_directory.empty()
                             ? std::filesystem::current_path()
                             : std::filesystem::path(to_wide(options.working_directory));
  std::error_code ignored;
  if (std::filesystem::is_directory(directory, ignored)) return directory.wstring();
  throw Error(ErrorCode::kNotFound, fmt::format("cannot start '{}': there is no working directory {}",
                                                options.program, options.working_directory));
}

// The system's own words for a file of another format have a gap for the name ("%1 is not a valid ...").
std::string reason(unsigned long system_error) {
  const bool is_foreign =
      system_error == ERROR_BAD_EXE_FORMAT || system_error == ERROR_EXE_MACHINE_TYPE_MISMATCH;
  return is_foreign ? fmt::format("it is no program for this machine ({})", system_error)
                    : windows_error_text(system_error);
}

}  // namespace

ExecImage::ExecImage(const ChildProcess::Options& options)
    : path_(find_program(options)),
      working_directory_(deepscale::working_directory(options)),
      command_line_(to_wide(windows_command_line(options.program, options.arguments))),
      inherits_input_(options.standard_input == ChildProcess::Stdin::kInherit) {
  for (const auto& [name, value] : options.environment.variables()) {
    environment_ += to_wide(name + "=" + value) + L'\0';
  }
  environment_ += L'\0';
  for (const int cpu : options.cpus) {
    if (cpu < 0 || cpu >= std::numeric_limits<std::uintptr_t>::digits) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("cannot start '{}': {} is not the number of a core in our processor group (0 to {})",
                      options.program, cpu, std::numeric_limits<std::uintptr_t>::digits - 1));
    }
    cpu_mask_ |= std::uintptr_t{1} << cpu;
  }
}

Error spawn_error(const ChildProcess::Options& options, unsigned long system_error) {
  const bool is_missing = system_error == ERROR_FILE_NOT_FOUND || system_error == ERROR_PATH_NOT_FOUND;
  return Error(is_missing ? ErrorCode::kNotFound : ErrorCode::kSystem,
               fmt::format("cannot start '{}': {}", options.program, reason(system_error)));
}

}  // namespace deepscale
