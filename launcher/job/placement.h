// Which rank runs where: global ranks count through the hosts in order, local ranks from 0 on every host.
//
// Pure; 10,000 hosts take milliseconds. Hosts may have different numbers of slots.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/job/hostfile.h"

namespace deepscale {

struct NodePlacement {
  std::string host;
  int first_rank = 0;
  std::vector<int> slots;  // one for each rank of this node, in the order of local ranks
  int rank_count() const { return static_cast<int>(slots.size()); }
  bool operator==(const NodePlacement&) const = default;
};

struct PlacementRequest {
  std::optional<int> node_count;      // the first so many hosts; unset: all
  std::optional<int> ranks_per_node;  // the first so many slots of each; unset: all
  bool oversubscribe = false;  // more ranks than slots take the slots in turn; else Error(kInvalidArgument)
};

std::vector<NodePlacement> place_ranks(const std::vector<Host>& hosts, const PlacementRequest& request);

}  // namespace deepscale
