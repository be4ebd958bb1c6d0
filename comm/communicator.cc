#include "comm/communicator.h"

#include <fmt/core.h>

#include <cstring>
#include <new>

#include "comm/base/error.h"
#include "comm/tcp/mesh.h"

namespace deepscale {

namespace {

constexpr std::align_val_t kPage{4096};

void refuse_unless_known(const WorldLayout& layout, const std::string& backend) {
  if (backend != "single" && backend != "shm" && backend != "tcp") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("there is no communicator backend '{}'; known are single, shm, tcp", backend));
  }
  if (backend == "single" && layout.world_size > 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the communicator backend 'single' is for one rank, and this job has {}",
                            layout.world_size));
  }
}

// One attempt after the other. All ranks take the same turns, since they see the same layout and options, and
// since make_shm_communicator() fails on all of them or on none.
class Choice {
 public:
  Choice(const WorldLayout& layout, std::shared_ptr<Store> store, CommunicatorOptions options)
      : layout_(layout), store_(std::move(store)), options_(std::move(options)) {}

  std::unique_ptr<Communicator> make() {
    const bool one_host = layout_.node_count == 1;
    if (!options_.backend.empty()) {
      refuse_unless_known(layout_, options_.backend);
      return make(options_.backend, "it was asked for by name");
    }
    if (layout_.world_size == 1) return make("single", "there is one rank");
    if (!one_host) return make("tcp", fmt::format("the ranks are on {} nodes", layout_.node_count));
    try {
      return make("shm", "all ranks are on one host");
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kUnsupported) throw;
      return make("tcp", fmt::format("the ranks cannot share memory ({})", error.what()));
    }
  }

 private:
  std::unique_ptr<Communicator> make(const std::string& backend, const std::string& reason) {
    CommunicatorOptions options = options_;
    if (backend == "tcp" && options.listen_address.empty()) {
      options.listen_address = tcp::choose_listen_address(layout_);
    }
    // A rank of an earlier generation may have left its address under the plain name.
    if (layout_.generation > 0) options.name += fmt::format(", generation {}", layout_.generation);
    auto communicator = make_by_name(backend, std::move(options));
    if (layout_.rank == 0) {
      options_.logger.info("communicator '{}': backend {}, since {}", options_.name, backend, reason);
    }
    return communicator;
  }
  std::unique_ptr<Communicator> make_by_name(const std::string& backend, CommunicatorOptions options) {
    if (backend == "single") return make_single_communicator();
    const auto make_backend = backend == "shm" ? make_shm_communicator : make_tcp_communicator;
    return make_backend(layout_.rank, layout_.world_size, store_, std::move(options));
  }

  const WorldLayout& layout_;
  const std::shared_ptr<Store> store_;
  const CommunicatorOptions options_;
};

}  // namespace

std::shared_ptr<std::byte> Communicator::allocate_shared(std::size_t bytes) {
  auto* memory = static_cast<std::byte*>(::operator new(bytes, kPage));
  std::memset(memory, 0, bytes);
  return {memory, [](std::byte* pointer) { ::operator delete(pointer, kPage); }};
}

std::unique_ptr<Communicator> make_communicator(const WorldLayout& layout, std::shared_ptr<Store> store,
                                                CommunicatorOptions options) {
  return Choice(layout, std::move(store), std::move(options)).make();
}

}  // namespace deepscale
