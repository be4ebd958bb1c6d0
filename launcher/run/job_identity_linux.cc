#include <unistd.h>

#include "launcher/run/job_identity.h"

namespace deepscale {

std::int64_t own_process_id() {
  return getpid();
}

}  // namespace deepscale
