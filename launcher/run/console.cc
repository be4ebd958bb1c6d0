#include "launcher/run/console.h"

#include <fmt/core.h>

#include <algorithm>

#include "launcher/run/job_events.h"
#include "launcher/run/rank_logs.h"

namespace deepscale {

std::string format_output(const OutputLine& line, bool tag, bool is_alone) {
  std::string text = tag ? fmt::format("[{}] ", line.rank) : std::string();
  text.reserve(text.size() + line.text.size() + 1);
  text.append(line.text);
  const bool ends_as_told = line.is_end && !line.lacks_newline;
  if (ends_as_told || !is_alone) text.push_back('\n');
  return text;
}

Console::Console(const JobSpec& spec, int world_size, std::function<void()> on_idle)
    : json_events_(spec.json_events),
      quiet_(spec.quiet),
      tag_(spec.tag_output.value_or(world_size > 1)),
      is_alone_(world_size == 1 && !tag_),
      shown_ranks_(spec.shown_ranks),
      out_(StandardStream::kOut, on_idle),
      err_(StandardStream::kErr, on_idle) {
  if (!spec.log_directory.empty()) logs_ = std::make_unique<RankLogs>(spec.log_directory, world_size);
}

Console::~Console() = default;

void Console::output(const OutputLine& line) {
  if (logs_) logs_->write(line);
  const bool is_shown =
      shown_ranks_.empty() || std::binary_search(shown_ranks_.begin(), shown_ranks_.end(), line.rank);
  if (!is_shown) return;
  if (json_events_) {
    out_.append(output_event(line));
  } else {
    StreamWriter& stream = line.stream == OutputStream::kOut ? out_ : err_;
    stream.append(format_output(line, tag_, is_alone_));
  }
}

void Console::note(std::string_view text) {
  if (json_events_) {
    out_.append(note_event(text));
  } else if (!quiet_) {
    err_.append(fmt::format("deepscale: {}\n", text));
  }
}

void Console::event(const std::string& json_line) {
  if (json_events_) out_.append(json_line);
}

void Console::report(const std::string& text) {
  if (!json_events_) err_.append(text);
}

void Console::report_losses() {
  const auto report_loss = [](StreamWriter& stream, const char* name, StreamWriter& other) {
    if (const auto error = stream.take_error())
      other.append(
          fmt::format("deepscale: output is lost: {} cannot be written: {}\n", name, error.message()));
  };
  report_loss(out_, "stdout", err_);
  report_loss(err_, "stderr", out_);
}

bool Console::is_idle() const {
  return out_.is_idle() && err_.is_idle();
}

void Console::call_when_idle() {
  (out_.is_idle() ? err_ : out_).call_when_idle();
}

void Console::flush_logs() {
  if (!logs_) return;
  logs_->flush();
  if (const auto error = logs_->take_error()) note(*error);
}

}  // namespace deepscale
