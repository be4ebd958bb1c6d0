// One file of output for each rank: <folder>/rank_<N>.log, both streams in the order in which they came.
//
// Single-threaded. A write that fails (a full disk) is reported once by take_error() and ends that file, not
// the job.
#pragma once

#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "agents/node/node_agent.h"

namespace deepscale {

class RankLogs {
 public:
  // Makes the folder and empty files; Error(kSystem) names what could not be made.
  RankLogs(const std::string& folder, int world_size);

  void write(const OutputLine& line);
  void flush();
  // The first failure since the last call, as a sentence.
  std::optional<std::string> take_error();

 private:
  std::string path_of(int rank) const;

  std::string folder_;
  std::map<int, std::ofstream> files_;
  std::vector<int> unflushed_;
  std::optional<std::string> error_;
};

}  // namespace deepscale
