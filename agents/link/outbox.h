// What a rank has yet to tell its agent, in the order in which it said it.
//
// Of heartbeats (and rests) that wait one after the other only the last is kept, so a rank may say one at
// every step. Behind anything else a mere sign of life is not needed. Nothing else is dropped, and nothing
// overtakes: a heartbeat tells that a rank goes on after the failure that it reported before, so one that was
// said before the report must not arrive after it. A value without thread rules beyond the usual.
#pragma once

#include <string>
#include <vector>

#include "agents/link/link_message.h"

namespace deepscale {

class LinkOutbox {
 public:
  void add(LinkMessage message);
  bool is_empty() const { return waiting_.empty(); }
  // All that waits, encoded.
  std::string take();

 private:
  std::vector<LinkMessage> waiting_;
};

}  // namespace deepscale
