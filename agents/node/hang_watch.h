// Whether the ranks of a node make progress, from the heartbeats that they have sent.
//
// A rank that has sent a heartbeat, and neither rests nor has closed its links, is watched: when the number
// of its steps does not change for the limit, the job hangs. In a job whose ranks wait for each other all
// stop at about the same step, so the rank to blame is looked for among all that are watched: one whose
// process is stopped, else one whose link has been silent too (its whole process stands still), else the one
// furthest behind; of equals the one that stands still for longest. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/base/clock.h"

namespace deepscale {

struct RankProgress {
  bool is_watched = false;
  std::int64_t steps = 0;
  Clock::time_point progress_at;  // when `steps` last changed
  Clock::time_point heard_at;     // when anything came over its link
  bool is_suspended = false;
};

struct Hang {
  std::size_t index = 0;  // of the rank to blame
  std::int64_t steps = 0;
  Clock::duration standstill{};
  bool is_suspended = false;
  bool is_silent = false;
  std::int64_t most_steps = 0;    // of the rank that is furthest ahead
  std::size_t as_far_behind = 1;  // how many watched ranks have as few steps, this one included
  std::size_t watched = 1;        // how many are watched

  // "made no step for 60.0 s: it has done 9, others up to 10; its process is stopped"
  std::string text() const;
};

// A process with a link says that it is alive every second.
inline constexpr Clock::duration kLinkSilence = std::chrono::seconds(4);

std::optional<Hang> find_hang(const std::vector<RankProgress>& ranks, Clock::time_point now,
                              Clock::duration limit);

// When to look again; nothing while no rank is watched.
std::optional<Clock::time_point> next_look(const std::vector<RankProgress>& ranks, Clock::duration limit);

}  // namespace deepscale
