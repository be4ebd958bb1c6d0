#include "agents/node/hang_watch.h"

#include <fmt/core.h>

#include <algorithm>
#include <tuple>

namespace deepscale {
namespace {

bool is_silent(const RankProgress& rank, Clock::time_point now) {
  return now - rank.heard_at > kLinkSilence;
}

// The least is to blame.
auto blame(const RankProgress& rank, Clock::time_point now) {
  return std::make_tuple(!rank.is_suspended, !is_silent(rank, now), rank.steps, rank.progress_at);
}

}  // namespace

std::optional<Hang> find_hang(const std::vector<RankProgress>& ranks, Clock::time_point now,
                              Clock::duration limit) {
  const auto next = next_look(ranks, limit);
  if (!next || *next > now) return std::nullopt;
  Hang hang;
  hang.watched = 0;
  const RankProgress* blamed = nullptr;
  for (const RankProgress& rank : ranks) {
    if (!rank.is_watched) continue;
    hang.most_steps = hang.watched++ == 0 ? rank.steps : std::max(hang.most_steps, rank.steps);
    if (blamed == nullptr || blame(rank, now) < blame(*blamed, now)) blamed = &rank;
  }
  hang.index = static_cast<std::size_t>(blamed - ranks.data());
  hang.steps = blamed->steps;
  hang.standstill = now - blamed->progress_at;
  hang.is_suspended = blamed->is_suspended;
  hang.is_silent = is_silent(*blamed, now);
  hang.as_far_behind =
      static_cast<std::size_t>(std::count_if(ranks.begin(), ranks.end(), [&](const auto& rank) {
        return rank.is_watched && rank.steps == hang.steps;
      }));
  return hang;
}

std::optional<Clock::time_point> next_look(const std::vector<RankProgress>& ranks, Clock::duration limit) {
  std::optional<Clock::time_point> next;
  for (const RankProgress& rank : ranks) {
    if (rank.is_watched && (!next || rank.progress_at + limit < *next)) next = rank.progress_at + limit;
  }
  return next;
}

std::string Hang::text() const {
  std::string text = fmt::format("made no step for {:.1f} s: it has done {}",
                                 std::chrono::duration<double>(standstill).count(), steps);
  if (watched > 1) {
    text += most_steps > steps         ? fmt::format(", others up to {}", most_steps)
            : as_far_behind == watched ? ", as all the others have"
                                       : "";
  }
  if (is_suspended) return text + "; its process is stopped (SIGSTOP)";
  return is_silent ? text + "; nothing of its process moves" : text;
}

}  // namespace deepscale
