#include "comm/hierarchical/hierarchy.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <deque>
#include <exception>

#include "comm/base/error.h"
#include "comm/buffer_parts.h"

namespace deepscale::hierarchical {

namespace {

// Of a large all_reduce: long enough for both ways to reach their speed.
constexpr std::size_t kPieceBytes = 4 << 20;
constexpr std::size_t kPiecesAhead = 2;

}  // namespace

Work Hierarchy::start(Communicator& part, const Start& start) {
  const std::lock_guard lock(starting_);
  return start(part);
}

void Hierarchy::finish(const Communicator& part, Work work) {
  try {
    work.wait();
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("among the ranks {}, there numbered from 0: {}", members_of(part), error.what()));
  }
}

std::string Hierarchy::members_of(const Communicator& part) const {
  if (&part == parts_.all.get()) return fmt::format("0-{}", shape_.size() - 1);
  std::vector<int> members;
  for (int i = 0; i < part.size(); ++i) {
    members.push_back(&part == parts_.within.get() ? shape_.host() * shape_.ranks_per_host + i
                                                   : i * shape_.ranks_per_host + shape_.place());
  }
  return fmt::format("{}", fmt::join(members, ", "));
}

// Whole numbers must be added up before they are divided; the average of averages is another one.
void Hierarchy::all_reduce(const Buffer& buffer, ReduceOp op) {
  if (op == ReduceOp::kAverage && !is_floating_point(buffer.dtype)) {
    return run(*parts_.all, [&](Communicator& all) { return all.all_reduce(buffer, op); });
  }
  const std::int64_t rest = buffer.count % shape_.ranks_per_host;
  all_reduce_in_pieces(part_of(buffer, 0, buffer.count - rest), op);
  if (rest > 0 || buffer.count == 0) all_reduce_whole(part_of(buffer, buffer.count - rest, rest), op);
}

void Hierarchy::all_reduce_in_pieces(const Buffer& buffer, ReduceOp op) {
  const std::int64_t unit = shape_.ranks_per_host;
  const std::int64_t most =
      std::max<std::int64_t>(static_cast<std::int64_t>(kPieceBytes / size_of(buffer.dtype)) / unit, 1) * unit;
  struct Piece {
    Buffer whole;
    Buffer own;
    Work between;
  };
  std::deque<Piece> ahead;
  const auto gather_first = [&] {
    const Piece piece = ahead.front();
    ahead.pop_front();
    finish(*parts_.between, piece.between);
    run(*parts_.within, [&](Communicator& within) { return within.all_gather(piece.own, piece.whole); });
  };
  for (std::int64_t begin = 0; begin < buffer.count; begin += most) {
    Piece piece{
        .whole = part_of(buffer, begin, std::min(most, buffer.count - begin)), .own = {}, .between = {}};
    const std::int64_t slice = piece.whole.count / unit;
    piece.own = part_of(piece.whole, shape_.place() * slice, slice);
    run(*parts_.within,
        [&](Communicator& within) { return within.reduce_scatter(piece.whole, piece.own, op); });
    piece.between =
        start(*parts_.between, [&](Communicator& between) { return between.all_reduce(piece.own, op); });
    ahead.push_back(std::move(piece));
    if (ahead.size() > kPiecesAhead) gather_first();
  }
  while (!ahead.empty()) gather_first();
}

// By all places alike: for what cannot be divided among them.
void Hierarchy::all_reduce_whole(const Buffer& buffer, ReduceOp op) {
  run(*parts_.within, [&](Communicator& within) { return within.all_reduce(buffer, op); });
  run(*parts_.between, [&](Communicator& between) { return between.all_reduce(buffer, op); });
}

void Hierarchy::reduce_scatter(const Buffer& input, const Buffer& output, ReduceOp op) {
  if (op == ReduceOp::kAverage && !is_floating_point(input.dtype)) {
    return run(*parts_.all, [&](Communicator& all) { return all.reduce_scatter(input, output, op); });
  }
  const std::int64_t slice = output.count;
  const std::int64_t of_host = slice * shape_.ranks_per_host;
  const Scratch sums(output, slice * shape_.hosts);
  std::vector<InputOutput> pairs;
  for (int host = 0; host < shape_.hosts; ++host) {
    pairs.push_back({part_of(input, host * of_host, of_host), part_of(sums.buffer(), host * slice, slice)});
  }
  run(*parts_.within, [&](Communicator& within) { return within.reduce_scatter_each(pairs, op); });
  run(*parts_.between,
      [&](Communicator& between) { return between.reduce_scatter(sums.buffer(), output, op); });
}

void Hierarchy::all_gather(const Buffer& input, const Buffer& output) {
  const std::int64_t slice = input.count;
  const std::int64_t of_host = slice * shape_.ranks_per_host;
  const Scratch of_place(input, slice * shape_.hosts);
  run(*parts_.between, [&](Communicator& between) { return between.all_gather(input, of_place.buffer()); });
  std::vector<InputOutput> pairs;
  for (int host = 0; host < shape_.hosts; ++host) {
    const Buffer whole = part_of(output, host * of_host, of_host);
    const Buffer own = part_of(whole, shape_.place() * slice, slice);
    copy(part_of(of_place.buffer(), host * slice, slice), own);
    pairs.push_back({own, whole});
  }
  run(*parts_.within, [&](Communicator& within) { return within.all_gather_each(pairs); });
}

void Hierarchy::broadcast(const Buffer& buffer, int root) {
  const int place = root % shape_.ranks_per_host;
  if (shape_.place() == place) {
    const int host = root / shape_.ranks_per_host;
    run(*parts_.between, [&](Communicator& between) { return between.broadcast(buffer, host); });
  }
  run(*parts_.within, [&](Communicator& within) { return within.broadcast(buffer, place); });
}

// First everything goes to the rank of this host that has the place of its destination, then to the host.
void Hierarchy::all_to_all(const Buffer& input, const Buffer& output) {
  const std::int64_t slice = input.count / shape_.size();
  const std::int64_t of_host = slice * shape_.ranks_per_host;
  const std::int64_t of_place = slice * shape_.hosts;
  const Scratch by_place(input, input.count), arrived(input, input.count);
  for (int host = 0; host < shape_.hosts; ++host) {
    for (int place = 0; place < shape_.ranks_per_host; ++place) {
      copy(part_of(input, host * of_host + place * slice, slice),
           part_of(by_place.buffer(), place * of_place + host * slice, slice));
    }
  }
  run(*parts_.within,
      [&](Communicator& within) { return within.all_to_all(by_place.buffer(), arrived.buffer()); });
  const Buffer& by_host = by_place.buffer();
  for (int host = 0; host < shape_.hosts; ++host) {
    for (int place = 0; place < shape_.ranks_per_host; ++place) {
      copy(part_of(arrived.buffer(), place * of_place + host * slice, slice),
           part_of(by_host, host * of_host + place * slice, slice));
    }
  }
  run(*parts_.between, [&](Communicator& between) { return between.all_to_all(by_host, output); });
}

void Hierarchy::barrier() {
  run(*parts_.within, [](Communicator& within) { return within.barrier(); });
  run(*parts_.between, [](Communicator& between) { return between.barrier(); });
}

std::shared_ptr<std::byte> Hierarchy::allocate_shared(std::size_t bytes) {
  std::shared_ptr<std::byte> memory;
  std::optional<Error> failure;
  try {
    const std::lock_guard lock(starting_);
    memory = parts_.within->allocate_shared(bytes);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kSystem) throw;
    failure.emplace(error);
  }
  std::int32_t has_room = failure ? 0 : 1;
  run(*parts_.between, [&](Communicator& between) {
    return between.all_reduce({&has_room, 1, DType::kInt32}, ReduceOp::kMin);
  });
  if (failure) throw *failure;
  if (has_room == 0) throw Error(ErrorCode::kSystem, "allocate_shared: another host has no room for it");
  return memory;
}

Work Hierarchy::send(const Buffer& buffer, int destination) {
  const bool is_near = destination / shape_.ranks_per_host == shape_.host();
  const int rank = is_near ? destination % shape_.ranks_per_host : destination;
  return start(is_near ? *parts_.within : *parts_.all,
               [&](Communicator& part) { return part.send(buffer, rank); });
}

Work Hierarchy::receive(const Buffer& buffer, int source) {
  const bool is_near = source / shape_.ranks_per_host == shape_.host();
  const int rank = is_near ? source % shape_.ranks_per_host : source;
  return start(is_near ? *parts_.within : *parts_.all,
               [&](Communicator& part) { return part.receive(buffer, rank); });
}

void Hierarchy::abort(const std::string& reason) {
  parts_.within->abort(reason);
  parts_.between->abort(reason);
  parts_.all->abort(reason);
}

}  // namespace deepscale::hierarchical
