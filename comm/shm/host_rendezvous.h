// How the ranks of a host agree, through the store, that shared memory works for all of them or for none.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace deepscale::shm {

struct Round {
  Store& store;
  int rank = 0;
  int size = 1;
  std::string name;  // unique in the store
  Deadline deadline = Deadline::never();
};

// Every rank calls `act` and learns what all of them returned, by rank. Where one throws an Error, every rank
// gets an Error(kUnsupported) that names the first such rank and says why. Error(kTimeout) when a rank does
// not come before the deadline, Error(kInvalidArgument) when the ranks disagree on the size of the world.
std::vector<std::string> agree(const Round& round, const std::function<std::string()>& act);

}  // namespace deepscale::shm
