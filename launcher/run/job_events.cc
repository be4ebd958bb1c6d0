#include "launcher/run/job_events.h"

#include <nlohmann/json.hpp>

namespace deepscale {
namespace {

using Json = nlohmann::ordered_json;

std::string as_line(const Json& event) {
  return event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

double unix_seconds(std::chrono::system_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

const char* how_name(ExitStatus::How how) {
  switch (how) {
    case ExitStatus::How::kNotStarted:
      return "not started";
    case ExitStatus::How::kSpawnFailed:
      return "spawn failed";
    case ExitStatus::How::kExited:
      return "exited";
    case ExitStatus::How::kSignalled:
      return "signalled";
    case ExitStatus::How::kCrashed:
      return "crashed";
    case ExitStatus::How::kLost:
      return "lost";
  }
  return "unknown";
}

Json status_json(const ExitStatus& status) {
  Json json = {{"how", how_name(status.how)}, {"code", status.code}};
  if (status.how == ExitStatus::How::kSignalled) json["signal"] = signal_name(status.code);
  json["text"] = status.text();
  json["stopped_by_us"] = status.stopped_by_us;
  json["core_dumped"] = status.core_dumped;
  json["peak_rss_bytes"] = status.peak_rss_bytes;
  json["seconds"] = seconds(status.duration);
  return json;
}

}  // namespace

std::string job_started_event(const JobPlan& plan, const Rendezvous& rendezvous) {
  Json nodes = Json::array();
  for (const NodePlan& node : plan.nodes) {
    nodes.push_back({{"host", node.placement.host},
                     {"first_rank", node.placement.first_rank},
                     {"ranks", node.placement.rank_count()},
                     {"devices", node.devices}});
  }
  return as_line({{"event", "job_started"},
                  {"job_id", rendezvous.job_id},
                  {"generation", rendezvous.generation},
                  {"world_size", plan.world_size},
                  {"master_addr", rendezvous.address},
                  {"master_port", rendezvous.port},
                  {"nodes", nodes}});
}

std::string rank_started_event(const RankEvent& event, int generation) {
  return as_line({{"event", "rank_started"},
                  {"rank", event.rank},
                  {"local_rank", event.local_rank},
                  {"generation", generation},
                  {"pid", event.pid}});
}

std::string rank_exited_event(const RankEvent& event, int generation) {
  return as_line({{"event", "rank_exited"},
                  {"rank", event.rank},
                  {"local_rank", event.local_rank},
                  {"generation", generation},
                  {"pid", event.pid},
                  {"status", status_json(*event.status)}});
}

std::string rank_joined_event(const RankEvent& event, int generation) {
  return as_line({{"event", "rank_joined"},
                  {"rank", event.rank},
                  {"local_rank", event.local_rank},
                  {"generation", generation}});
}

std::string hang_event(const RankResult& to_blame, const Hang& hang, int generation) {
  return as_line({{"event", "hang"},
                  {"rank", to_blame.rank},
                  {"local_rank", to_blame.local_rank},
                  {"generation", generation},
                  {"steps", hang.steps},
                  {"most_steps", hang.most_steps},
                  {"seconds", seconds(hang.standstill)},
                  {"suspended", hang.is_suspended}});
}

std::string output_event(const OutputLine& line) {
  Json event = {{"event", "output"},
                {"rank", line.rank},
                {"stream", line.stream == OutputStream::kOut ? "stdout" : "stderr"},
                {"text", without_carriage_return(line.text)}};
  if (!line.is_end) event["continues"] = true;
  return as_line(event);
}

std::string note_event(std::string_view text) {
  return as_line({{"event", "note"}, {"text", text}});
}

std::string failure_event(const FailureReport& report) {
  const RankResult& cause = report.cause;
  const Json steps = cause.steps ? Json(*cause.steps) : Json();
  return as_line({{"event", "failure"},
                  {"class", failure_class_name(report.failure_class)},
                  {"headline", report.headline},
                  {"explanation", report.explanation},
                  {"reported", cause.reported ? Json(cause.reported->message) : Json()},
                  {"steps", steps},
                  {"host", report.host},
                  {"rank", cause.rank},
                  {"local_rank", cause.local_rank},
                  {"world_size", report.world_size},
                  {"generation", report.generation},
                  {"pid", cause.pid},
                  {"status", status_json(cause.status)},
                  {"started_at", unix_seconds(cause.started_at)},
                  {"ended_at", unix_seconds(cause.ended_at)},
                  {"last_stderr_lines", cause.last_error_lines},
                  {"failed_as_well", report.also_failed},
                  {"stopped", report.stopped},
                  {"succeeded", report.succeeded},
                  {"never_started", report.never_started},
                  {"exit_code", report.exit_code}});
}

std::string job_finished_event(int exit_code, std::string_view outcome, Clock::duration duration) {
  return as_line({{"event", "job_finished"},
                  {"outcome", outcome},
                  {"exit_code", exit_code},
                  {"seconds", seconds(duration)}});
}

}  // namespace deepscale
