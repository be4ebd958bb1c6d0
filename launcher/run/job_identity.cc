#include "launcher/run/job_identity.h"

#include <fmt/core.h>

#include <chrono>
#include <fstream>

#include "comm/base/error.h"
#include "launcher/job/file_path.h"

namespace deepscale {

std::string new_job_id() {
  // A pid is unique while its process lives; the time tells its later reuses apart.
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return fmt::format("{:x}-{:x}", std::chrono::duration_cast<std::chrono::microseconds>(now).count(),
                     own_process_id());
}

PidFile::PidFile(bool is_wanted) {
  if (!is_wanted) return;
  std::error_code failure;
  const auto path =
      std::filesystem::temp_directory_path(failure) / fmt::format("{}.deepscale", own_process_id());
  std::ofstream file(path);
  if (!(file << own_process_id() << '\n')) {
    throw Error(
        ErrorCode::kSystem,
        fmt::format("--save_pid: {} cannot be written; set TMPDIR to a folder of yours.", to_text(path)));
  }
  path_ = to_text(path);
}

PidFile::~PidFile() {
  std::error_code failure;
  if (!path_.empty()) std::filesystem::remove(to_path(path_), failure);
}

}  // namespace deepscale
