#include "runtime/zero/gather_schedule.h"

#include <algorithm>

namespace deepscale {

GatherSchedule::GatherSchedule(std::vector<std::int64_t> unit_numels, GatherLimits limits) : limits_(limits) {
  for (const std::int64_t numel : unit_numels) units_.push_back({.numel = numel});
}

GatherSchedule::Decision GatherSchedule::begin_use(int unit) {
  Decision decision;
  Unit& used = at(unit);
  ++used.holds;
  if (unit == last_two_.second && used.is_live) return decision;
  learn(unit);
  const std::vector<int> prediction = predict();
  release_unneeded(prediction, decision.release);
  if (!used.is_live) {
    make_room(used.numel, 0, decision.release);
    decision.gather.push_back(unit);
    set_live(unit, true);
  }
  prefetch(prediction, decision);
  return decision;
}

void GatherSchedule::end_use(int unit) {
  --at(unit).holds;
}

void GatherSchedule::learn(int unit) {
  if (unit == last_two_.second) return;
  follower_[last_two_] = unit;
  last_two_ = {last_two_.second, unit};
}

// The units to come, at most those within max_reuse_distance, each as often as it is used.
std::vector<int> GatherSchedule::predict() const {
  std::vector<int> prediction;
  Pair pair = last_two_;
  std::int64_t distance = 0;
  // Forward and backward are two uses of every unit; a prediction that goes round in a circle ends there.
  const std::size_t longest = 2 * units_.size();
  while (prediction.size() < longest) {
    const auto found = follower_.find(pair);
    if (found == follower_.end()) break;
    distance += at(found->second).numel;
    if (distance > limits_.max_reuse_distance) break;
    prediction.push_back(found->second);
    pair = {pair.second, found->second};
  }
  return prediction;
}

void GatherSchedule::release_unneeded(const std::vector<int>& prediction, std::vector<int>& release) {
  for (Unit& unit : units_) unit.used_ahead = 0;
  for (std::size_t i = prediction.size(); i-- > 0;) {
    at(prediction[i]).used_ahead = static_cast<std::int64_t>(i) + 1;
  }
  for (int unit = 0; unit < static_cast<int>(units_.size()); ++unit) {
    if (!is_live(unit) || is_held(unit) || at(unit).used_ahead > 0) continue;
    release.push_back(unit);
    set_live(unit, false);
  }
}

bool GatherSchedule::make_room(std::int64_t numel, std::int64_t used_ahead, std::vector<int>& release) {
  while (live_numel_ + numel > limits_.max_live_numel) {
    int furthest = -1;
    for (int unit = 0; unit < static_cast<int>(units_.size()); ++unit) {
      if (!is_live(unit) || is_held(unit)) continue;
      if (furthest < 0 || at(unit).used_ahead > at(furthest).used_ahead) furthest = unit;
    }
    if (furthest < 0 || at(furthest).used_ahead <= used_ahead) return false;
    release.push_back(furthest);
    set_live(furthest, false);
  }
  return true;
}

void GatherSchedule::prefetch(const std::vector<int>& prediction, Decision& decision) {
  std::int64_t ahead = 0;
  for (const int unit : prediction) {
    ahead += at(unit).numel;
    if (ahead > limits_.prefetch_numel) return;
    if (is_live(unit)) continue;
    if (!make_room(at(unit).numel, at(unit).used_ahead, decision.release)) return;
    decision.gather.push_back(unit);
    set_live(unit, true);
  }
}

void GatherSchedule::set_live(int unit, bool is_live) {
  at(unit).is_live = is_live;
  live_numel_ += is_live ? at(unit).numel : -at(unit).numel;
}

std::vector<int> GatherSchedule::live_unheld() const {
  std::vector<int> units;
  for (int unit = 0; unit < static_cast<int>(units_.size()); ++unit) {
    if (is_live(unit) && !is_held(unit)) units.push_back(unit);
  }
  return units;
}

}  // namespace deepscale
