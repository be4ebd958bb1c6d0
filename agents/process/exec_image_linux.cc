#include "agents/process/exec_image_linux.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace deepscale {
namespace {

bool is_executable_file(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

std::string find_program(const ChildProcess::Options& options) {
  const std::string& program = options.program;
  if (program.find('/') != std::string::npos) return program;
  const std::string path = options.environment.get_or("PATH", "/usr/local/bin:/usr/bin:/bin");
  std::string_view rest = path;
  while (!program.empty() && !rest.empty()) {
    const auto end = std::min(rest.find(':'), rest.size());
    const std::string folder(rest.substr(0, end));
    const std::string candidate = (folder.empty() ? "." : folder) + "/" + program;
    if (is_executable_file(candidate)) return candidate;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const bool is_here = !program.empty() && is_executable_file("./" + program);
  throw Error(ErrorCode::kNotFound,
              fmt::format("cannot start '{}': there is no such program in PATH ({}).{}", program, path,
                          is_here ? fmt::format(" For the one in this folder say ./{}.", program) : ""));
}

const char* stage_text(SupervisorReport::Stage stage) {
  switch (stage) {
    case SupervisorReport::kSupervise:
      return "its supervisor failed";
    case SupervisorReport::kFork:
      return "fork failed";
    case SupervisorReport::kWorkingDirectory:
      return "cannot enter its working directory";
    case SupervisorReport::kAffinity:
      return "cannot bind it to the cores";
    case SupervisorReport::kExec:
      break;
  }
  return "cannot execute it";
}

std::string advice(const ChildProcess::Options& options, const SupervisorReport& report) {
  if (report.stage == SupervisorReport::kWorkingDirectory) return " (" + options.working_directory + ")";
  if (report.stage == SupervisorReport::kAffinity) {
    return fmt::format(" (cores {}; does this machine have them all, and may we use them?)",
                       fmt::join(options.cpus, ","));
  }
  if (report.stage != SupervisorReport::kExec) return "";
  switch (report.error) {
    case ENOENT:
      return ::access(options.program.c_str(), F_OK) == 0 ? ". The file is there, so what is missing is the "
                                                            "interpreter in its first line, or its loader."
                                                          : "";
    case EACCES:
      return ". Is it a program, and executable (chmod +x)?";
    case ENOEXEC:
      return ". It is no program for this machine, and has no first line that names an interpreter (#!).";
    case E2BIG:
      return ". Its arguments and environment are larger than the system allows.";
    default:
      return "";
  }
}

}  // namespace

ExecImage::ExecImage(const ChildProcess::Options& options) : options_(options), path_(find_program(options)) {
  arguments_.push_back(const_cast<char*>(options.program.c_str()));
  for (const std::string& argument : options.arguments) {
    arguments_.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments_.push_back(nullptr);
  for (const auto& [name, value] : options.environment.variables()) variables_.push_back(name + "=" + value);
  for (std::string& variable : variables_) environment_.push_back(variable.data());
  environment_.push_back(nullptr);
  CPU_ZERO(&cpus_);
  for (const int cpu : options.cpus) {
    if (cpu < 0 || cpu >= CPU_SETSIZE) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("cannot start '{}': {} is not the number of a core (0 to {})", options.program,
                              cpu, CPU_SETSIZE - 1));
    }
    CPU_SET(cpu, &cpus_);
  }
}

ExecPlan ExecImage::plan() const {
  return {
      .path = path_.c_str(),
      .arguments = arguments_.data(),
      .environment = environment_.data(),
      .working_directory = options_.working_directory.empty() ? nullptr : options_.working_directory.c_str(),
      .cpus = options_.cpus.empty() ? nullptr : &cpus_};
}

Error spawn_error(const ChildProcess::Options& options, const SupervisorReport& report) {
  const bool is_missing = report.error == ENOENT || report.error == ENOTDIR;
  return Error(is_missing ? ErrorCode::kNotFound : ErrorCode::kSystem,
               fmt::format("cannot start '{}': {}: {}{}", options.program, stage_text(report.stage),
                           std::strerror(report.error), advice(options, report)));
}

}  // namespace deepscale
