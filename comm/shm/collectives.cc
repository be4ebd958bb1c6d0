#include "comm/shm/collectives.h"

#include <algorithm>
#include <cstring>

#include "comm/base/streaming_copy.h"

namespace deepscale::shm {

namespace {

// What is reduced at once on the way to several places: stays in the first-level cache.
constexpr std::size_t kBlockBytes = 8 << 10;

bool has_data_in_post(const Exchange& exchange) {
  return exchange.input_bytes() <= kPostedBytes;
}

void copy_bytes(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, bytes);
}

// Data that is larger than the caches will not be found there by whoever needs it next.
constexpr std::size_t kBeyondCaches = 8 << 20;

void deliver(const Operation& operation, std::byte* to, const std::byte* from, std::size_t bytes) {
  const std::size_t moved = operation.request().input.bytes() + operation.request().output.bytes();
  if (moved >= kBeyondCaches && to != from) {
    streaming_copy(to, from, bytes);
  } else {
    copy_bytes(to, from, bytes);
  }
}

std::byte* input_of(const Operation& operation) {
  return static_cast<std::byte*>(operation.request().input.data);
}
std::byte* output_of(const Operation& operation) {
  return static_cast<std::byte*>(operation.request().output.data);
}

}  // namespace

Collectives::Collectives(Host& host, Waiter& waiter, Finish finish)
    : host_(host),
      waiter_(waiter),
      finish_(std::move(finish)),
      rank_(host.rank()),
      size_(host.size()),
      scratch_(kBlockBytes) {}

bool Collectives::start(Operation& operation) {
  queue_.push_back(&operation);
  if (queue_.size() > 1) return false;
  post(operation);
  return has_data_in_post(Exchange(operation.header(), size_));
}

void Collectives::advance(const std::atomic<bool>&) {
  Operation& operation = *queue_.front();
  complete(operation);
  queue_.pop_front();
  finish_(operation);
  if (!queue_.empty()) post(*queue_.front());
}

void Collectives::post(Operation& operation) {
  ++number_;
  const OperationRequest& request = operation.request();
  const Exchange exchange(request.header, size_);
  if (has_data_in_post(exchange))
    copy_bytes(posted_by(rank_, exchange), input_of(operation), request.input.bytes());
  Post& post = post_of(rank_);
  post.header = request.header;
  post.arena = request.read_place.arena == nullptr ? 0 : request.read_place.arena->id();
  post.offset = request.read_place.offset;
  post.number.store(number_);
  host_.wake_peers(Lane::kCollectives);
}

void Collectives::complete(Operation& operation) {
  await_posts(operation);
  if (has_data_in_post(Exchange(operation.header(), size_))) return complete_posted(operation);
  if (all_are_in_one_arena(operation)) return complete_in_place(operation);
  complete_staged(operation);
}

void Collectives::await_posts(const Operation& operation) {
  // From the last one on: ranks tend to come in their order, and then one sleep is enough.
  for (int peer = size_ - 1; peer >= 0; --peer) {
    if (peer == rank_) continue;
    const Post& post = post_of(peer);
    waiter_.until(
        peer, [&] { return post.number.load() >= number_; },
        [&] { return waiter_.why_hopeless(operation, peer); });
    if (post.header != operation.header()) {
      throw Error(ErrorCode::kInvalidArgument,
                  describe_disagreement(rank_, operation.header(), peer, post.header));
    }
  }
}

void Collectives::step(const Operation& operation) {
  host_.own().step.store(++step_);
  host_.wake_peers(Lane::kCollectives);
  for (int peer = size_ - 1; peer >= 0; --peer) {
    if (peer == rank_) continue;
    const auto& reached = host_.block(peer).step;
    waiter_.until(
        peer, [&] { return reached.load() >= step_; }, [&] { return waiter_.why_hopeless(operation, peer); });
  }
}

// An all_reduce that is posted is reduced as a whole by every rank: one hop instead of two.
void Collectives::complete_posted(const Operation& operation) {
  const Exchange exchange(operation.header(), size_);
  std::byte* output = output_of(operation);
  const bool is_all_reduce = operation.header().kind == OperationKind::kAllReduce;
  if (exchange.reduces()) {
    std::vector<const std::byte*> sources;
    for (int from = 0; from < size_; ++from) {
      sources.push_back(posted_by(from, exchange) + (is_all_reduce ? 0 : exchange.given(from, rank_).offset));
    }
    reduce(sources, output, operation.header().count, operation.header().dtype, operation.header().reduce_op);
    return;
  }
  for (int from = 0; from < size_; ++from) {
    const Part given = exchange.given(from, rank_);
    const std::byte* source = from == rank_ ? input_of(operation) : posted_by(from, exchange);
    if (given.bytes > 0) copy_bytes(output + exchange.taken(from).offset, source + given.offset, given.bytes);
  }
}

bool Collectives::all_are_in_one_arena(const Operation& operation) {
  if (operation.request().read_place.arena == nullptr) return false;
  const std::uint64_t arena = operation.request().read_place.arena->id();
  for (int rank = 0; rank < size_; ++rank) {
    if (post_of(rank).arena != arena) return false;
  }
  return true;
}

void Collectives::complete_in_place(const Operation& operation) {
  const Exchange exchange(operation.header(), size_);
  const SharedArena& arena = *operation.request().read_place.arena;
  std::vector<const std::byte*> inputs;
  for (int rank = 0; rank < size_; ++rank) inputs.push_back(arena.part(rank) + post_of(rank).offset);
  if (exchange.reduces()) {
    reduce_in_place(operation, inputs);
  } else {
    for (int distance = 0; distance < size_; ++distance) {
      const int from = (rank_ + distance) % size_;
      const Part given = exchange.given(from, rank_);
      if (given.bytes == 0) continue;
      deliver(operation, output_of(operation) + exchange.taken(from).offset,
              inputs[static_cast<std::size_t>(from)] + given.offset, given.bytes);
    }
  }
  step(operation);  // nobody reads this rank's memory any more
}

void Collectives::reduce_in_place(const Operation& operation, const std::vector<const std::byte*>& inputs) {
  const Exchange exchange(operation.header(), size_);
  const Part own = exchange.given(rank_, rank_);
  std::vector<const std::byte*> sources;
  for (const std::byte* input : inputs) sources.push_back(input + own.offset);
  if (operation.header().kind == OperationKind::kReduceScatter) {
    return reduce_into(operation, std::move(sources), own.bytes, {output_of(operation)});
  }
  const SharedArena& arena = *operation.request().read_place.arena;
  std::vector<std::byte*> targets;
  for (int rank = 0; rank < size_; ++rank) {
    targets.push_back(arena.part(rank) + post_of(rank).offset + own.offset);
  }
  reduce_into(operation, std::move(sources), own.bytes, targets);
}

void Collectives::reduce_into(const Operation& operation, std::vector<const std::byte*> sources,
                              std::size_t bytes, const std::vector<std::byte*>& targets) {
  const MessageHeader& header = operation.header();
  for (std::size_t begin = 0; begin < bytes; begin += kBlockBytes) {
    const std::size_t block = std::min(bytes - begin, kBlockBytes);
    const auto count = static_cast<std::int64_t>(block / size_of(header.dtype));
    reduce(sources, scratch_.data(), count, header.dtype, header.reduce_op);
    for (std::byte* target : targets) {
      // What was just read is in the cache, and best overwritten there.
      const bool was_read = header.kind == OperationKind::kAllReduce ||
                            target + begin == sources[static_cast<std::size_t>(rank_)];
      if (was_read) {
        copy_bytes(target + begin, scratch_.data(), block);
      } else {
        deliver(operation, target + begin, scratch_.data(), block);
      }
    }
    for (const std::byte*& source : sources) source += block;
  }
}

// Pieces are whole elements, and as many of them share a stage as there are different readers.
std::size_t Collectives::piece_bytes(const Exchange& exchange) const {
  const auto readers = static_cast<std::size_t>(std::max(size_ - 1, 1));
  const std::size_t stage = host_.has_processor_for_every_rank() ? kCachedStageBytes : kStageBytes;
  return (exchange.gives_all_the_same() ? stage : stage / readers) / kCacheLine * kCacheLine;
}

std::size_t Collectives::stage_offset(const Exchange& exchange, int from, int to) const {
  if (exchange.gives_all_the_same()) return 0;
  const int place = (to - from + size_) % size_ - 1;  // the readers of `from`, beginning behind it
  return static_cast<std::size_t>(place) * piece_bytes(exchange);
}

void Collectives::complete_staged(const Operation& operation) {
  host_.take_stages();
  const Exchange exchange(operation.header(), size_);
  const std::size_t piece = piece_bytes(exchange);
  for (std::size_t begin = 0; begin < exchange.largest_part(); begin += piece) {
    stage(operation, begin);
    step(operation);
    if (exchange.reduces()) {
      reduce_piece(operation, begin);
    } else {
      take_staged(operation, begin);
    }
    if (operation.header().kind == OperationKind::kAllReduce) {
      step(operation);
      take_results(operation, begin);
    }
    ++pieces_;
  }
}

void Collectives::stage(const Operation& operation, std::size_t begin) {
  const Exchange exchange(operation.header(), size_);
  for (int distance = 1; distance < size_; ++distance) {
    const int to = (rank_ + distance) % size_;
    const Part piece = exchange.given(rank_, to).piece(begin, piece_bytes(exchange));
    if (piece.bytes > 0) {
      copy_bytes(input_stage_of(rank_) + stage_offset(exchange, rank_, to),
                 input_of(operation) + piece.offset, piece.bytes);
    }
    if (exchange.gives_all_the_same()) return;
  }
}

void Collectives::take_staged(const Operation& operation, std::size_t begin) {
  const Exchange exchange(operation.header(), size_);
  const std::size_t most = piece_bytes(exchange);
  for (int distance = 0; distance < size_; ++distance) {
    const int from = (rank_ + distance) % size_;
    const Part given = exchange.given(from, rank_).piece(begin, most);
    if (given.bytes == 0) continue;
    const std::byte* source = from == rank_ ? input_of(operation) + given.offset
                                            : input_stage_of(from) + stage_offset(exchange, from, rank_);
    deliver(operation, output_of(operation) + exchange.taken(from).piece(begin, most).offset, source,
            given.bytes);
  }
}

void Collectives::reduce_piece(const Operation& operation, std::size_t begin) {
  const Exchange exchange(operation.header(), size_);
  const Part own = exchange.given(rank_, rank_).piece(begin, piece_bytes(exchange));
  if (own.bytes == 0) return;
  std::vector<const std::byte*> sources;
  for (int from = 0; from < size_; ++from) {
    sources.push_back(from == rank_ ? input_of(operation) + own.offset
                                    : input_stage_of(from) + stage_offset(exchange, from, rank_));
  }
  if (operation.header().kind == OperationKind::kReduceScatter) {
    return reduce_into(operation, std::move(sources), own.bytes, {output_of(operation) + begin});
  }
  // One target after the other: both at once, block by block, is slower by a quarter.
  std::byte* output = output_of(operation) + own.offset;
  reduce_into(operation, std::move(sources), own.bytes, {output});
  copy_bytes(result_stage_of(rank_), output, own.bytes);
}

void Collectives::take_results(const Operation& operation, std::size_t begin) {
  const Exchange exchange(operation.header(), size_);
  for (int distance = 1; distance < size_; ++distance) {
    const int from = (rank_ + distance) % size_;
    const Part slice = exchange.all_reduce_slice(from).piece(begin, piece_bytes(exchange));
    if (slice.bytes > 0) copy_bytes(output_of(operation) + slice.offset, result_stage_of(from), slice.bytes);
  }
}

}  // namespace deepscale::shm
