#include "comm/shm/host.h"

#include <fmt/core.h>

#include <algorithm>
#include <new>

#include "comm/shm/host_rendezvous.h"

namespace deepscale::shm {

namespace {

constexpr auto kLongestTimeout = std::chrono::hours(24 * 365);  // now + timeout must not overflow

// With more ranks, entering everybody's pages into everybody is most of the time that the start takes: 256
// ranks spent a minute on it and 0.7 GB of page tables.
constexpr int kMostToMapAtOnce = 16;

SharedSegment::Pages pages_for(int size) {
  return size <= kMostToMapAtOnce ? SharedSegment::Pages::kAtOnce : SharedSegment::Pages::kWhenTouched;
}

// Every rank draws one, so that two communicators never share a doorbell; it goes with the segment's name.
std::string doorbell_name(const std::string& segment_name, Lane lane) {
  return fmt::format("{}-{}", segment_name.substr(segment_name.find("deepscale-")), static_cast<int>(lane));
}

}  // namespace

Host::Host(int rank, int size, Store* store, const CommunicatorOptions& options)
    : rank_(rank),
      size_(size),
      timeout_(std::min<Clock::duration>(options.timeout, kLongestTimeout)),
      segments_(static_cast<std::size_t>(size)),
      blocks_(static_cast<std::size_t>(size)),
      processes_(static_cast<std::size_t>(size)) {
  const auto own = static_cast<std::size_t>(rank);
  const auto make = [&] {
    segments_[own] = make_own();
    return fmt::format("{} {}", own_process_id(), segments_[own]->name());
  };
  std::vector<std::string> contacts;
  if (size == 1) {
    contacts = {make()};
    open_peer(0, contacts[0]);
  } else {
    Round round{*store, rank, size, options.name + "/shm", Deadline::after(timeout_)};
    contacts = agree(round, make);
    round.name += ", mapped";
    agree(round, [&] {
      for (int peer = 0; peer < size_; ++peer) open_peer(peer, contacts[static_cast<std::size_t>(peer)]);
      return std::string();
    });
  }
  segments_[own]->forget_name();
  ProcessorSet processors;
  for (const RankBlock* block : blocks_) processors |= block->processors;
  has_processor_for_every_rank_ = processors.count() >= static_cast<std::size_t>(size);
}

Host::~Host() {
  auto running = Life::kRunning;
  own().life.compare_exchange_strong(running, Life::kLeft);
  ring_everybody();
}

SharedSegment Host::make_own() {
  SharedSegment segment = SharedSegment::create(segment_bytes(size_), pages_for(size_));
  auto* block = new (segment.data()) RankBlock;  // its bytes are zero, and so they stay
  block->process_id = own_process_id();
  block->processors = usable_processors();
  for (int to = 0; to < size_; ++to) {
    new (segment.data() + sizeof(RankBlock) + static_cast<std::size_t>(to) * pipe_bytes(size_)) Pipe;
  }
  return segment;
}

// The process is held before its memory is opened: the memory then proves that it is the right one.
void Host::open_peer(int peer, const std::string& contact) {
  const auto index = static_cast<std::size_t>(peer);
  const auto space = contact.find(' ');
  const std::string name = contact.substr(space + 1);
  if (peer != rank_) {
    processes_[index].emplace(std::stoll(contact.substr(0, space)));
    segments_[index] = SharedSegment::open(name, segment_bytes(size_), pages_for(size_));
  }
  blocks_[index] = std::launder(reinterpret_cast<RankBlock*>(segments_[index]->data()));
  for (const Lane lane : {Lane::kCollectives, Lane::kPipes}) {
    auto& word = blocks_[index]->doorbells[static_cast<std::size_t>(lane)];
    doorbells_.emplace_back(word, doorbell_name(name, lane));
  }
}

Pipe& Host::pipe(int from, int to) {
  std::byte* pipes = segments_[static_cast<std::size_t>(from)]->data() + sizeof(RankBlock);
  return *std::launder(reinterpret_cast<Pipe*>(pipes + static_cast<std::size_t>(to) * pipe_bytes(size_)));
}

std::byte* Host::pipe_slot(int from, int to, std::uint64_t index) {
  auto* slots = reinterpret_cast<std::byte*>(&pipe(from, to)) + sizeof(Pipe);
  return slots + static_cast<std::size_t>(index % kPipeSlots) * pipe_slot_bytes(size_);
}

void Host::ring_everybody() {
  for (Doorbell& doorbell : doorbells_) doorbell.ring();
}

void Host::fail(ErrorCode code, const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (cause_) return;
    cause_.emplace(code, why);
    RankBlock& block = own();
    block.farewell[why.copy(block.farewell.data(), block.farewell.size() - 1)] = '\0';
    block.life.store(Life::kGaveUp);
    has_failed_.store(true);
  }
  ring_everybody();
}

Error Host::cause() const {
  const std::lock_guard lock(mutex_);
  return *cause_;
}

std::optional<std::string> Host::why_gone(int peer) {
  const RankBlock& block = this->block(peer);
  const auto& process = processes_[static_cast<std::size_t>(peer)];
  switch (block.life.load()) {
    case Life::kLeft:
      return "it closed the communicator";
    case Life::kGaveUp:
      return fmt::format("it gave up: {}", block.farewell.data());
    case Life::kRunning:
      break;
  }
  if (process && process->has_ended()) return fmt::format("its process {} ended", process->id());
  return std::nullopt;
}

}  // namespace deepscale::shm
