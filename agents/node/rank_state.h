// The life of a rank, as an explicit and checked table.
//
//   Planned --> Spawning --> Started --> Joined --> Running --> Stopping --> Killing --> Exited
//      |           |            |___________________^  \____________^ ^________^  ^
//      |           v            a rank without a link is Running at once          any state after Spawning
//      |      SpawnFailed                                                         may go to Exited or Lost
//      `-> Exited  (never started: the job was stopped before its turn)
//
// From Started on, every state may also go straight to Stopping and Killing. Exited, SpawnFailed and Lost are
// final. A value; no thread rules.
#pragma once

#include <array>

namespace deepscale {

enum class RankState {
  kPlanned,
  kSpawning,
  kStarted,  // the program runs
  kJoined,   // it has spoken to its agent (agents/link)
  kRunning,
  kStopping,  // it was asked to end
  kKilling,   // its tree is being killed
  kExited,
  kSpawnFailed,
  kLost,
};

const char* rank_state_name(RankState state);  // "planned", "spawning", ...
bool is_final(RankState state);
bool may_follow(RankState from, RankState to);

// Holds one state and lets it change only along the table; Error(kInternal) names both states otherwise.
class RankStateMachine {
 public:
  RankState state() const { return state_; }
  void move_to(RankState next);

 private:
  RankState state_ = RankState::kPlanned;
};

}  // namespace deepscale
