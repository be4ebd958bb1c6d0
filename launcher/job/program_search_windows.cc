#include <windows.h>

#include <filesystem>

#include "comm/base/text_encoding_windows.h"
#include "launcher/job/file_path.h"
#include "launcher/job/program_search.h"

namespace deepscale {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(';', start), text.size());
    if (end > start) parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

bool is_file(const std::string& path) {
  std::error_code failure;
  return std::filesystem::is_regular_file(to_path(path), failure);
}

}  // namespace

bool has_folder(const std::string& name) {
  return name.find_first_of("/\\:") != std::string::npos;
}

// Windows has no permission to execute: the ending decides.
std::optional<std::string> executable_at(const std::string& path, const Environment& environment) {
  for (const std::string& ending : split(environment.get_or("PATHEXT", ".COM;.EXE;.BAT;.CMD"))) {
    const bool has_ending = path.size() > ending.size() &&
                            _stricmp(path.c_str() + path.size() - ending.size(), ending.c_str()) == 0;
    if (has_ending) return is_file(path) ? std::optional(path) : std::nullopt;
  }
  for (const char* ending : {".exe", ".com", ".bat", ".cmd"}) {
    if (is_file(path + ending)) return path + ending;
  }
  return std::nullopt;
}

std::string executable_advice(const std::string&) {
  return "Windows starts files that end in .exe, .com, .bat or .cmd";
}

std::vector<std::string> search_folders(const Environment& environment) {
  return split(environment.get_or("PATH", ""));
}

void prepend_search_folder(Environment& environment, const std::string& folder) {
  const std::string path = environment.get_or("PATH", "");
  environment.set("PATH", path.empty() ? folder : folder + ";" + path);
}

void append_search_folder(Environment& environment, const std::string& variable, const std::string& folder) {
  const std::string before = environment.get_or(variable, "");
  environment.set(variable, before.empty() ? folder : before + ";" + folder);
}

std::vector<std::string> python_paths(const std::string& environment_folder) {
  return {environment_folder + "\\Scripts\\python.exe", environment_folder + "\\python.exe"};
}

std::string own_folder() {
  std::wstring name(32768, L'\0');
  const DWORD units = GetModuleFileNameW(nullptr, name.data(), static_cast<DWORD>(name.size()));
  name.resize(units);
  return to_text(std::filesystem::path(name).parent_path());
}

}  // namespace deepscale
