#include <unistd.h>

#include <filesystem>

#include "launcher/job/program_search.h"

namespace deepscale {

bool has_folder(const std::string& name) {
  return name.find('/') != std::string::npos;
}

std::optional<std::string> executable_at(const std::string& path, const Environment&) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(path, failure) || access(path.c_str(), X_OK) != 0)
    return std::nullopt;
  return path;
}

std::string executable_advice(const std::string& path) {
  return "Make it so with \"chmod +x " + path + "\"";
}

std::vector<std::string> search_folders(const Environment& environment) {
  std::vector<std::string> folders;
  const std::string path = environment.get_or("PATH", "/usr/local/bin:/usr/bin:/bin");
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find(':', start), path.size());
    folders.push_back(end == start ? "." : path.substr(start, end - start));
    start = end + 1;
  }
  return folders;
}

void prepend_search_folder(Environment& environment, const std::string& folder) {
  const std::string path = environment.get_or("PATH", "");
  environment.set("PATH", path.empty() ? folder : folder + ":" + path);
}

void append_search_folder(Environment& environment, const std::string& variable, const std::string& folder) {
  const std::string before = environment.get_or(variable, "");
  environment.set(variable, before.empty() ? folder : before + ":" + folder);
}

std::vector<std::string> python_paths(const std::string& environment_folder) {
  return {environment_folder + "/bin/python3", environment_folder + "/bin/python"};
}

std::string own_folder() {
  std::error_code failure;
  return std::filesystem::read_symlink("/proc/self/exe", failure).parent_path().string();
}

}  // namespace deepscale
