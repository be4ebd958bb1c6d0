#include "launcher/job/program.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "comm/base/error.h"
#include "launcher/job/file_path.h"
#include "launcher/job/program_search.h"

namespace deepscale {
namespace {

bool is_file(const std::string& path) {
  std::error_code failure;
  return std::filesystem::is_regular_file(to_path(path), failure);
}

bool is_folder(const std::string& path) {
  std::error_code failure;
  return std::filesystem::is_directory(to_path(path), failure);
}

bool is_python_script(const std::string& name) {
  return name.size() > 3 && name.compare(name.size() - 3, 3, ".py") == 0;
}

std::optional<std::string> find_in_path(const std::string& name, const Environment& environment) {
  for (const std::string& folder : search_folders(environment)) {
    if (auto found = executable_at(folder + "/" + name, environment)) return found;
  }
  return std::nullopt;
}

std::string find_python(const Environment& environment) {
  for (const char* variable : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    const auto folder = environment.get(variable);
    if (!folder || folder->empty()) continue;
    for (const std::string& path : python_paths(*folder)) {
      if (auto found = executable_at(path, environment)) return *found;
    }
  }
  for (const char* name : {"python3", "python"}) {
    if (auto found = find_in_path(name, environment)) return *found;
  }
  throw Error(ErrorCode::kNotFound,
              "no python was found to run the program: neither VIRTUAL_ENV nor CONDA_PREFIX has one, nor is "
              "python3 or "
              "python in PATH. Activate an environment, give --venv_script, or install python3.");
}

// Says which of the ways to go wrong it was.
[[noreturn]] void fail_to_execute(const std::string& name) {
  if (is_folder(name)) throw Error(ErrorCode::kSystem, fmt::format("{} is a folder, not a program.", name));
  if (is_file(name)) {
    throw Error(ErrorCode::kSystem,
                fmt::format("{} is not executable. {}; {}", name, executable_advice(name),
                            is_python_script(name) ? "or leave --no_python out to run it by python."
                                                   : "a Python script must end in .py."));
  }
  const char* advice = has_folder(name) ? "Check the path."
                                        : "It is neither in PATH nor in the current folder; check the name.";
  throw Error(ErrorCode::kNotFound, fmt::format("program not found: {}. {}", name, advice));
}

std::string find_program(const std::string& name, const Environment& environment) {
  if (has_folder(name)) {
    if (auto found = executable_at(name, environment)) return *found;
    fail_to_execute(name);
  }
  if (auto found = find_in_path(name, environment)) return *found;
  for (const std::string& folder : {std::string("."), own_folder()}) {
    if (auto found = executable_at(folder + "/" + name, environment)) return *found;
  }
  fail_to_execute(name);
}

}  // namespace

Program resolve_program(const JobSpec& spec, const Environment& environment) {
  if (spec.run_as_module) return Program{find_python(environment), {"-m", spec.program}, true};
  if (!is_python_script(spec.program) || spec.without_python)
    return Program{find_program(spec.program, environment), {}, false};
  if (!is_file(spec.program)) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("Python script not found: {}. Check the path.", spec.program));
  }
  return Program{find_python(environment), {spec.program}, true};
}

void activate_venv(Environment& environment, const std::string& script) {
  std::error_code failure;
  const std::filesystem::path programs = std::filesystem::absolute(to_path(script), failure).parent_path();
  if (failure || !is_file(script)) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("--venv_script {}: there is no such file; give the path of a venv's bin/activate.",
                    script));
  }
  const std::vector<std::string> pythons = python_paths(to_text(programs.parent_path()));
  if (std::none_of(pythons.begin(), pythons.end(), is_file)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--venv_script {}: there is no python beside it; give the path of a venv's "
                            "bin/activate.",
                            script));
  }
  environment.set("VIRTUAL_ENV", to_text(programs.parent_path()));
  prepend_search_folder(environment, to_text(programs));
  environment.remove("PYTHONHOME");
}

void add_python_link(Environment& environment) {
  std::error_code failure;
  const std::filesystem::path folder = to_path(own_folder()).parent_path() / "share/deepscale/python";
  if (!std::filesystem::is_directory(folder, failure)) return;
  append_search_folder(environment, "PYTHONPATH", to_text(folder));
}

}  // namespace deepscale
