// Everything that a person, or a program with --json, sees of a job: the ranks' lines, the launcher's
// remarks, and the log files.
//
// Lines of a rank keep their order within a stream, and are never torn: a line longer than a piece (see
// OutputLine) goes on in a new line with the same tag. Without tags and with one rank the bytes are passed on
// as they are.
//
// Threads: all calls on the owner's thread; on_idle is called on another one (see StreamWriter).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agents/node/node_agent.h"
#include "launcher/job/job_spec.h"
#include "launcher/run/stream_writer.h"

namespace deepscale {

// "[3] text\n". `tag` asks for the prefix; `is_alone` for the bytes as they are.
std::string format_output(const OutputLine& line, bool tag, bool is_alone);

class RankLogs;

class Console {
 public:
  // Error(kSystem) when the log folder or a file in it cannot be made.
  Console(const JobSpec& spec, int world_size, std::function<void()> on_idle);
  ~Console();

  void output(const OutputLine& line);
  // A remark of the launcher: on stderr as "deepscale: text", as an event with --json. Not with --quiet.
  void note(std::string_view text);
  // A line of JSON; dropped without --json.
  void event(const std::string& json_line);
  // Text on stderr, whatever the options; dropped with --json, where an event says the same.
  void report(const std::string& text);
  // Says on the other stream, whatever the options, that one cannot be written. Once for each.
  void report_losses();
  bool has_lost_output() const { return out_.has_lost_text() || err_.has_lost_text(); }
  // The remarks of one stream must not overtake the other's: true when nothing waits on either.
  bool is_idle() const;
  void call_when_idle();
  // Grows as long as somebody reads what we write.
  std::uint64_t written_bytes() const { return out_.written_bytes() + err_.written_bytes(); }
  // Take no more lines until on_idle.
  bool is_full() const { return out_.is_full() || err_.is_full(); }
  bool is_json() const { return json_events_; }
  // False when bytes are passed on as they are: then a piece of a line is welcome at once.
  bool wants_whole_lines() const { return json_events_ || !is_alone_; }
  // Brings the log files up to date.
  void flush_logs();

 private:
  bool json_events_;
  bool quiet_;
  bool tag_;
  bool is_alone_;
  std::vector<int> shown_ranks_;
  StreamWriter out_;
  StreamWriter err_;
  std::unique_ptr<RankLogs> logs_;
};

}  // namespace deepscale
