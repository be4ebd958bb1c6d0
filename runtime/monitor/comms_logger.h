// Counts, sizes and times of the operations of a Communicator, by operation and message size.
//
// A RecordingCommunicator stands in front of another one and passes everything on. The time of an operation
// runs from its call to the end of the first wait() for it, or to the first is_done() that says yes: what it
// overlaps with counts too, so it tells how long the caller was served, not how busy the wire was.
//
// Threads: those of Communicator; the record may be read on the thread that uses the communicator.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "runtime/config/config.h"

namespace deepscale {

class CommsRecord {
 public:
  struct Total {
    std::int64_t count = 0;
    double seconds = 0.0;
    double longest_seconds = 0.0;
  };
  using Key = std::pair<std::string, std::size_t>;  // operation, bytes of the whole message

  CommsRecord(CommsLoggerConfig config, Logger logger);
  bool wants(const std::string& operation) const;
  void add(const std::string& operation, std::size_t bytes, double seconds);

  const std::map<Key, Total>& totals() const { return totals_; }
  // A table; empty where nothing was recorded. For `world_size` ranks.
  std::string table(int world_size) const;

 private:
  const CommsLoggerConfig config_;
  const Logger logger_;
  std::map<Key, Total> totals_;
};

std::shared_ptr<Communicator> make_recording_communicator(std::shared_ptr<Communicator> communicator,
                                                          std::shared_ptr<CommsRecord> record);

}  // namespace deepscale
