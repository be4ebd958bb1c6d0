#include "agents/node/rank_state.h"

#include <fmt/core.h>

#include <cstdint>

#include "comm/base/error.h"

namespace deepscale {
namespace {

constexpr std::uint32_t bit(RankState state) {
  return 1U << static_cast<unsigned>(state);
}

constexpr std::uint32_t followers(RankState state) {
  constexpr std::uint32_t kEnds = bit(RankState::kExited) | bit(RankState::kLost);
  constexpr std::uint32_t kKill = bit(RankState::kKilling) | kEnds;
  constexpr std::uint32_t kStop = bit(RankState::kStopping) | kKill;
  switch (state) {
    case RankState::kPlanned:
      return bit(RankState::kSpawning) | bit(RankState::kExited);
    case RankState::kSpawning:
      return bit(RankState::kStarted) | bit(RankState::kSpawnFailed);
    case RankState::kStarted:
      return bit(RankState::kJoined) | kStop;
    case RankState::kJoined:
      return bit(RankState::kRunning) | kStop;
    case RankState::kRunning:
      return kStop;
    case RankState::kStopping:
      return kKill;
    case RankState::kKilling:
      return kEnds;
    case RankState::kExited:
    case RankState::kSpawnFailed:
    case RankState::kLost:
      break;
  }
  return 0;
}

}  // namespace

const char* rank_state_name(RankState state) {
  switch (state) {
    case RankState::kPlanned:
      return "planned";
    case RankState::kSpawning:
      return "spawning";
    case RankState::kStarted:
      return "started";
    case RankState::kJoined:
      return "joined";
    case RankState::kRunning:
      return "running";
    case RankState::kStopping:
      return "stopping";
    case RankState::kKilling:
      return "killing";
    case RankState::kExited:
      return "exited";
    case RankState::kSpawnFailed:
      return "spawn failed";
    case RankState::kLost:
      return "lost";
  }
  return "unknown";
}

bool is_final(RankState state) {
  return followers(state) == 0;
}

bool may_follow(RankState from, RankState to) {
  return (followers(from) & bit(to)) != 0;
}

void RankStateMachine::move_to(RankState next) {
  if (!may_follow(state_, next)) {
    throw Error(ErrorCode::kInternal, fmt::format("a rank that is {} cannot become {}",
                                                  rank_state_name(state_), rank_state_name(next)));
  }
  state_ = next;
}

}  // namespace deepscale
