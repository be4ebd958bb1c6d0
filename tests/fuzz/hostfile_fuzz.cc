// Any bytes as a hostfile: parse_hostfile() returns hosts that ranks can be placed on, or throws an Error;
// nothing else.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string_view>

#include "comm/base/error.h"
#include "launcher/job/hostfile.h"
#include "launcher/job/placement.h"
#include "tests/fuzz/require.h"

namespace deepscale::testing {
namespace {

// What the parser accepts, its users must accept too.
void use(const std::vector<Host>& hosts) {
  require(!hosts.empty(), "there is a host");
  std::set<std::string> names;
  for (const Host& host : hosts) {
    require(!host.name.empty() && names.insert(host.name).second, "each host has a name of its own");
  }
  std::size_t next_rank = 0;
  for (const NodePlacement& node : place_ranks(hosts, {})) {
    require(node.first_rank == static_cast<int>(next_rank), "ranks count through the hosts");
    require(node.rank_count() >= 1, "each host has a rank");
    next_rank += static_cast<std::size_t>(node.rank_count());
  }
}

}  // namespace
}  // namespace deepscale::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<deepscale::Host> hosts;
  try {
    hosts = deepscale::parse_hostfile({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const deepscale::Error&) {
    return 0;
  }
  deepscale::testing::use(hosts);
  return 0;
}
