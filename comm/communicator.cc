#include "comm/communicator.h"

#include <fmt/core.h>

#include "comm/base/error.h"
#include "comm/tcp/mesh.h"

namespace deepscale {

namespace {

struct Choice {
  std::string backend;
  std::string reason;
};

Choice choose_backend(const WorldLayout& layout, const std::string& forced) {
  if (forced.empty()) {
    if (layout.world_size == 1) return {"single", "there is one rank"};
    return {"tcp", fmt::format("{} ranks on {} node(s)", layout.world_size, layout.node_count)};
  }
  if (forced != "single" && forced != "tcp") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("there is no communicator backend '{}'; known are single, tcp", forced));
  }
  if (forced == "single" && layout.world_size > 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the communicator backend 'single' is for one rank, and this job has {}",
                            layout.world_size));
  }
  return {forced, "it was asked for by name"};
}

}  // namespace

std::unique_ptr<Communicator> make_communicator(const WorldLayout& layout, std::shared_ptr<Store> store,
                                                CommunicatorOptions options) {
  const Choice choice = choose_backend(layout, options.backend);
  if (layout.rank == 0) {
    options.logger.info("communicator '{}': backend {}, since {}", options.name, choice.backend,
                        choice.reason);
  }
  if (choice.backend == "single") return make_single_communicator();
  if (options.listen_address.empty()) options.listen_address = tcp::choose_listen_address(layout);
  // A rank of an earlier generation may have left its address under the plain name.
  if (layout.generation > 0) options.name += fmt::format(", generation {}", layout.generation);
  return make_tcp_communicator(layout.rank, layout.world_size, std::move(store), std::move(options));
}

}  // namespace deepscale
