#include "comm/communicator.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "comm/arguments.h"
#include "comm/base/error.h"
#include "comm/hierarchical/hierarchical_communicator.h"
#include "comm/tcp/mesh.h"

namespace deepscale {

namespace {

constexpr std::align_val_t kPage{4096};

constexpr const char* kBackends[] = {"single", "shm", "hierarchical", "tcp", "gloo"};

void refuse_unless_known(const WorldLayout& layout, const std::string& backend) {
  if (backend == "nccl") {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("the communicator backend 'nccl' is for CUDA buffers, and this program has buffers "
                    "of the CPU only; for those there are {}",
                    fmt::join(kBackends, ", ")));
  }
  if (std::find(std::begin(kBackends), std::end(kBackends), backend) == std::end(kBackends)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("there is no communicator backend '{}'; known are {}", backend,
                            fmt::join(kBackends, ", ")));
  }
  if (backend == "single" && layout.world_size > 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the communicator backend 'single' is for one rank, and this job has {}",
                            layout.world_size));
  }
}

// One attempt after the other. All ranks take the same turns, since they see the same world and options, and
// since a backend that may be refused is refused on all of them or on none.
class Choice {
 public:
  Choice(const WorldLayout& layout, std::shared_ptr<Store> store, CommunicatorOptions options)
      : layout_(layout), store_(std::move(store)), options_(std::move(options)) {}

  std::unique_ptr<Communicator> make() {
    if (!options_.backend.empty()) {
      refuse_unless_known(layout_, options_.backend);
      return make(options_.backend, "it was asked for by name");
    }
    std::string refusals;
    for (const Candidate& candidate : candidates()) {
      try {
        return make(candidate.backend, candidate.reason + refusals);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::kUnsupported) throw;
        refusals += fmt::format("; {} is not possible: {}", candidate.backend, error.what());
      }
    }
    throw Error(ErrorCode::kUnsupported, "no communicator backend works here" + refusals);
  }

 private:
  struct Candidate {
    const char* backend;
    std::string reason;
  };

  std::vector<Candidate> candidates() const {
    if (layout_.world_size == 1) return {{"single", "there is one rank"}};
    if (layout_.node_count == 1) {
      return {{"shm", "all ranks are on one host"}, {"tcp", "it needs nothing but a network"}};
    }
    // Also with one rank on each node: not every launcher tells all ranks the same number of nodes.
    const std::string spread = fmt::format("the ranks are on {} nodes", layout_.node_count);
    return {{"hierarchical", spread}, {"tcp", spread}};
  }

  std::unique_ptr<Communicator> make(const std::string& backend, const std::string& reason) {
    CommunicatorOptions options = options_;
    const bool listens = backend == "tcp" || backend == "hierarchical" || backend == "gloo";
    if (listens && options.listen_address.empty()) {
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
    if (backend == "hierarchical") {
      return make_hierarchical_communicator(layout_, store_, std::move(options));
    }
    const auto make_backend = backend == "shm"    ? make_shm_communicator
                              : backend == "gloo" ? make_gloo_communicator
                                                  : make_tcp_communicator;
    return make_backend(layout_.rank, layout_.world_size, store_, std::move(options));
  }

  const WorldLayout& layout_;
  const std::shared_ptr<Store> store_;
  const CommunicatorOptions options_;
};

class AllOf final : public Work::State {
 public:
  explicit AllOf(std::vector<Work> works) : works_(std::move(works)) {}
  bool is_done() const override {
    return std::all_of(works_.begin(), works_.end(), [](const Work& work) { return work.is_done(); });
  }
  void wait() override {
    std::optional<Error> failure;
    for (Work work : works_) {
      try {
        work.wait();
      } catch (const Error& error) {
        if (!failure) failure.emplace(error);
      }
    }
    if (failure) throw *failure;
  }
  void wait_on(void* stream) override {
    for (Work work : works_) work.wait_on(stream);
  }

 private:
  const std::vector<Work> works_;
};

}  // namespace

Work Work::all_of(std::vector<Work> works) {
  return Work(std::make_shared<AllOf>(std::move(works)));
}

Work Communicator::start_group(std::size_t count, const std::function<Work(std::size_t)>& start) {
  std::vector<Work> works;
  begin_group();
  try {
    for (std::size_t i = 0; i < count; ++i) works.push_back(start(i));
  } catch (...) {
    end_group();
    throw;
  }
  end_group();
  return Work::all_of(std::move(works));
}

Work Communicator::all_reduce_each(std::span<const Buffer> buffers, ReduceOp op) {
  for (const Buffer& buffer : buffers) check_buffer(*this, "all_reduce_each", buffer);
  return start_group(buffers.size(), [&](std::size_t i) { return all_reduce(buffers[i], op); });
}

Work Communicator::reduce_scatter_each(std::span<const InputOutput> pairs, ReduceOp op) {
  for (const auto& [input, output] : pairs)
    check_whole_and_slice(*this, "reduce_scatter_each", input, output);
  return start_group(pairs.size(),
                     [&](std::size_t i) { return reduce_scatter(pairs[i].input, pairs[i].output, op); });
}

Work Communicator::all_gather_each(std::span<const InputOutput> pairs) {
  for (const auto& [input, output] : pairs) check_whole_and_slice(*this, "all_gather_each", output, input);
  return start_group(pairs.size(),
                     [&](std::size_t i) { return all_gather(pairs[i].input, pairs[i].output); });
}

std::unique_ptr<Communicator> Communicator::split(int, int) {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("rank {} of {}: the backend '{}' cannot be split", rank(), size(), backend()));
}

std::shared_ptr<std::byte> Communicator::allocate_shared(std::size_t bytes) {
  auto* memory = static_cast<std::byte*>(::operator new(bytes, kPage));
  std::memset(memory, 0, bytes);
  return {memory, [](std::byte* pointer) { ::operator delete(pointer, kPage); }};
}

std::shared_ptr<std::byte> Communicator::allocate_common(std::size_t) {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("rank {} of {}: the backend '{}' has no memory that all ranks can map", rank(),
                          size(), backend()));
}

std::unique_ptr<Communicator> make_communicator(const WorldLayout& layout, std::shared_ptr<Store> store,
                                                CommunicatorOptions options) {
  return Choice(layout, std::move(store), std::move(options)).make();
}

}  // namespace deepscale
