#include "comm/shm/host.h"

#include <fmt/core.h>

#include <algorithm>

#include "comm/shm/host_rendezvous.h"

namespace deepscale::shm {

namespace {

constexpr auto kLongestTimeout = std::chrono::hours(24 * 365);  // now + timeout must not overflow

// With the random name of the segment in it, so that two communicators never share a doorbell.
std::string doorbell_name(const std::string& segment_name, int rank, Lane lane) {
  return fmt::format("{}-{}-{}", segment_name.substr(segment_name.find("deepscale-")), rank,
                     static_cast<int>(lane));
}

}  // namespace

Host::Host(int rank, int size, Store* store, const CommunicatorOptions& options)
    : rank_(rank),
      size_(size),
      timeout_(std::min<Clock::duration>(options.timeout, kLongestTimeout)),
      layout_(size),
      has_pipe_(static_cast<std::size_t>(size)),
      processes_(static_cast<std::size_t>(size)) {
  meet(store, options);
  ProcessorSet processors;
  for (int peer = 0; peer < size_; ++peer) processors |= block(peer).processors;
  has_processor_for_every_rank_ = processors.count() >= static_cast<std::size_t>(size);
}

void Host::meet(Store* store, const CommunicatorOptions& options) {
  const auto make = [&] {
    if (rank_ != 0) return std::string();
    segment_ = SharedSegment::create(layout_.bytes(), SharedSegment::Pages::kLater);
    return segment_->name();
  };
  if (size_ == 1) return enter(make());
  Round round{*store, rank_, size_, options.name + "/shm", Deadline::after(timeout_)};
  const std::string segment_name = agree(round, make).front();
  round.name += ", mapped";
  agree(round, [&] {
    enter(segment_name);
    return std::string();
  });
}

// Whoever can open the memory of rank 0 through its process sees the others' processes too.
void Host::enter(const std::string& segment_name) {
  if (!segment_) {
    segment_ = SharedSegment::open(segment_name, layout_.bytes(), SharedSegment::Pages::kLater);
  }
  segment_->take(layout_.block(rank_), sizeof(RankBlock));
  segment_->take(layout_.posted(rank_), sizeof(Posted));
  own().process = own_process();
  own().processors = usable_processors();
  PeerProcess::find(own().process);  // throws where the system cannot
  for (int rank = 0; rank < size_; ++rank) {
    for (const Lane lane : {Lane::kCollectives, Lane::kPipes}) {
      auto& word = block(rank).doorbells[static_cast<std::size_t>(lane)];
      doorbells_.emplace_back(word, doorbell_name(segment_name, rank, lane));
    }
  }
}

Host::~Host() {
  auto running = Life::kRunning;
  own().life.compare_exchange_strong(running, Life::kLeft);
  wake_everybody();
}

void Host::take_stages() {
  if (has_stages_) return;
  segment_->take(layout_.stages(rank_), sizeof(Stages));
  has_stages_ = true;
}

void Host::take_pipe(int to) {
  const auto index = static_cast<std::size_t>(to);
  if (has_pipe_[index]) return;
  segment_->take(layout_.pipe(rank_, to), layout_.pipe_bytes());
  has_pipe_[index] = true;
}

std::byte* Host::pipe_slot(int from, int to, std::uint64_t index) {
  auto* slots = reinterpret_cast<std::byte*>(&pipe(from, to)) + sizeof(Pipe);
  return slots + static_cast<std::size_t>(index % kPipeSlots) * pipe_slot_bytes(size_);
}

void Host::wake_everybody() {
  for (Doorbell& doorbell : doorbells_) doorbell.ring_if_asleep();
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
  wake_everybody();
}

Error Host::cause() const {
  const std::lock_guard lock(mutex_);
  return *cause_;
}

std::optional<std::string> Host::why_gone(int peer) {
  const RankBlock& block = this->block(peer);
  switch (block.life.load()) {
    case Life::kLeft:
      return "it closed the communicator";
    case Life::kGaveUp:
      return fmt::format("it gave up: {}", block.farewell.data());
    case Life::kRunning:
      break;
  }
  const std::lock_guard lock(mutex_);
  auto& process = processes_[static_cast<std::size_t>(peer)];
  if (!process) process = PeerProcess::find(block.process);
  if (!process || process->has_ended()) return fmt::format("its process {} ended", block.process.id);
  return std::nullopt;
}

}  // namespace deepscale::shm
