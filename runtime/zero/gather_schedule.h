// Which units of sharded parameters are gathered, when, and for how long (ZeRO stage 3). A unit is what one
// all-gather brings: the parameters of a bucket of a PartitionPlan.
//
// Each use of a unit tells what to release first and what to gather then. What comes next is predicted from
// what followed the last time that these two units were used one after the other: forward runs through the
// units one way and backward the other, so a pair tells which of the two it is. A wrong prediction costs time
// only: the unit that is used is always gathered. So a graph that changes, evaluation between training steps
// and generation need no special case, and are followed after one repetition.
//
//   released   what nobody holds and what is not predicted to be used within max_reuse_distance; more of it,
//              the furthest use first, where else max_live_numel would be exceeded
//   gathered   the unit itself, then ahead of use, in the order of the prediction, up to prefetch_numel and
//              within max_live_numel, in place of what is used later
//
// The decisions depend on the order of uses alone, so ranks that run the same program gather in the same
// order. A pure state machine, for one thread; it moves no data.
// Sources: DeepSpeed's PartitionedParameterCoordinator, for the meaning of the limits.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace deepscale {

// In elements.
struct GatherLimits {
  std::int64_t max_live_numel = 1'000'000'000;
  std::int64_t max_reuse_distance = 1'000'000'000;
  std::int64_t prefetch_numel = 50'000'000;
};

class GatherSchedule {
 public:
  struct Decision {
    std::vector<int> release;
    std::vector<int> gather;  // the used unit first, when it is not live
  };

  GatherSchedule(std::vector<std::int64_t> unit_numels, GatherLimits limits);

  // Somebody begins to read the unit. It is held until as many calls of end_use() came.
  Decision begin_use(int unit);
  void end_use(int unit);

  bool is_live(int unit) const { return units_[static_cast<std::size_t>(unit)].is_live; }
  bool is_held(int unit) const { return units_[static_cast<std::size_t>(unit)].holds > 0; }
  std::int64_t live_numel() const { return live_numel_; }

  // All live units that nobody holds.
  std::vector<int> live_unheld() const;

 private:
  struct Unit {
    std::int64_t numel = 0;
    bool is_live = false;
    int holds = 0;
    std::int64_t used_ahead = 0;  // scratch of one decision: position in the prediction, 0 when not in it
  };
  using Pair = std::pair<int, int>;

  void learn(int unit);
  std::vector<int> predict() const;
  void release_unneeded(const std::vector<int>& prediction, std::vector<int>& release);
  // Releases what is used after the `used_ahead`-th use to come, the furthest first, until there is room.
  bool make_room(std::int64_t numel, std::int64_t used_ahead, std::vector<int>& release);
  void prefetch(const std::vector<int>& prediction, Decision& decision);
  void set_live(int unit, bool is_live);
  Unit& at(int unit) { return units_[static_cast<std::size_t>(unit)]; }
  const Unit& at(int unit) const { return units_[static_cast<std::size_t>(unit)]; }

  const GatherLimits limits_;
  std::vector<Unit> units_;
  std::map<Pair, int> follower_;
  Pair last_two_ = {-1, -1};
  std::int64_t live_numel_ = 0;
};

}  // namespace deepscale
