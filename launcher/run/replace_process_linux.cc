#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "comm/base/error.h"
#include "launcher/job/program_search.h"
#include "launcher/run/replace_process.h"

namespace deepscale {

int run_in_place(const std::string& name, const std::vector<std::string>& arguments) {
  const std::string path = own_folder() + "/" + name;
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv(path.c_str(), argv.data());
  throw Error(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kSystem,
              fmt::format("cannot start {}: {}. It belongs beside deepscale; is the build complete?", path,
                          std::strerror(errno)));
}

}  // namespace deepscale
