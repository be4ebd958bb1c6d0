// The life of a rank, as an explicit and checked table.
//
//   Planned --> Spawning --> Started --> Joined --> Running --> Stopping --> Killing --> Exited | Lost
//      |           `-> SpawnFailed
//      `-> Exited    (never started: the job was stopped before its turn)
//
// A rank that does not use agents/link stays Started. Besides, from Started on: every state may go straight
// to a later one of Stopping, Killing, Exited and Lost. Exited, SpawnFailed and Lost are final.
#pragma once

namespace deepscale {

enum class RankState {
  kPlanned,
  kSpawning,
  kStarted,   // the program runs
  kJoined,    // it has spoken to its agent (agents/link)
  kRunning,   // it has sent a heartbeat
  kStopping,  // it was asked to end
  kKilling,   // its tree is being killed
  kExited,
  kSpawnFailed,
  kLost,
};

const char* rank_state_name(RankState state);  // "planned", "spawning", ...
bool is_final(RankState state);
bool may_follow(RankState from, RankState to);

// Holds one state and lets it change only along the table; else Error(kInternal) that names both states.
class RankStateMachine {
 public:
  RankState state() const { return state_; }
  void move_to(RankState next);

 private:
  RankState state_ = RankState::kPlanned;
};

}  // namespace deepscale
