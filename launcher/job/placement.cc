#include "launcher/job/placement.h"

#include <fmt/core.h>

#include "comm/base/error.h"

namespace deepscale {

std::vector<NodePlacement> place_ranks(const std::vector<Host>& hosts, const PlacementRequest& request) {
  const std::size_t node_count =
      request.node_count ? static_cast<std::size_t>(*request.node_count) : hosts.size();
  if (node_count > hosts.size()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("--num_nodes {} asks for more hosts than there are "
                                                         "({}); add hosts to the hostfile or lower it.",
                                                         node_count, hosts.size()));
  }
  std::vector<NodePlacement> nodes;
  nodes.reserve(node_count);
  int next_rank = 0;
  for (std::size_t i = 0; i < node_count; ++i) {
    const Host& host = hosts[i];
    const std::size_t rank_count =
        request.ranks_per_node ? static_cast<std::size_t>(*request.ranks_per_node) : host.slots.size();
    if (rank_count > host.slots.size() && !request.oversubscribe) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format(
              "--num_gpus {} asks for more ranks than the {} slots (GPUs) of host \"{}\"; lower it, or add "
              "--oversubscribe to let ranks share them.",
              rank_count, host.slots.size(), host.name));
    }
    NodePlacement node{host.name, next_rank, {}};
    node.slots.reserve(rank_count);
    for (std::size_t rank = 0; rank < rank_count; ++rank)
      node.slots.push_back(host.slots[rank % host.slots.size()]);
    next_rank += node.rank_count();
    nodes.push_back(std::move(node));
  }
  return nodes;
}

}  // namespace deepscale
