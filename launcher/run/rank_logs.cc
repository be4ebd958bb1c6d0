#include "launcher/run/rank_logs.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "comm/base/error.h"
#include "launcher/job/file_path.h"

namespace deepscale {

RankLogs::RankLogs(const std::string& folder, int world_size) : folder_(folder) {
  std::error_code failure;
  std::filesystem::create_directories(to_path(folder), failure);
  if (failure) {
    throw Error(ErrorCode::kSystem,
                fmt::format("--log_dir {}: the folder cannot be made: {}.", folder, failure.message()));
  }
  for (int rank = 0; rank < world_size; ++rank) {
    std::ofstream file(to_path(path_of(rank)), std::ios::binary | std::ios::trunc);
    if (!file)
      throw Error(ErrorCode::kSystem, fmt::format("--log_dir: {} cannot be written.", path_of(rank)));
    files_.emplace(rank, std::move(file));
  }
}

std::string RankLogs::path_of(int rank) const {
  return to_text(to_path(folder_) / to_path(fmt::format("rank_{}.log", rank)));
}

void RankLogs::write(const OutputLine& line) {
  const auto found = files_.find(line.rank);
  if (found == files_.end()) return;
  std::ofstream& file = found->second;
  file.write(line.text.data(), static_cast<std::streamsize>(line.text.size()));
  if (line.is_end) file.put('\n');
  if (std::find(unflushed_.begin(), unflushed_.end(), line.rank) == unflushed_.end())
    unflushed_.push_back(line.rank);
}

void RankLogs::flush() {
  for (int rank : unflushed_) {
    const auto found = files_.find(rank);
    if (found == files_.end() || found->second.flush()) continue;
    if (!error_)
      error_ = fmt::format("{} cannot be written any more; the job goes on without it", path_of(rank));
    files_.erase(found);
  }
  unflushed_.clear();
}

std::optional<std::string> RankLogs::take_error() {
  return std::exchange(error_, std::nullopt);
}

}  // namespace deepscale
