#include <unistd.h>

#include "runtime/monitor/output_folder.h"

namespace deepscale {

std::string name_of_this_host() {
  char name[256] = "";
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

std::int64_t pid_of_this_process() {
  return ::getpid();
}

}  // namespace deepscale
