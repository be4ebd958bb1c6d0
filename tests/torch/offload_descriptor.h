// How a test gets at a file of offloaded state, to which no path leads. Linux.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

namespace deepscale::testing {

// This process's descriptor of the file that was made in the folder under a name that begins so.
inline int descriptor_of(const std::filesystem::path& folder, const std::string& name) {
  namespace fs = std::filesystem;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const fs::path target = fs::read_symlink(entry.path(), gone);
    if (target.parent_path() == folder && target.filename().string().starts_with(name))
      return std::stoi(entry.path().filename().string());
  }
  throw std::runtime_error("there is no file " + name);
}

}  // namespace deepscale::testing
