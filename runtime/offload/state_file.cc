#include "runtime/offload/state_file.h"

#include <algorithm>

namespace deepscale {
namespace {

constexpr std::int64_t kPageNumel = PagedFile::kPageBytes / sizeof(float);

std::int64_t whole_pages(std::int64_t numel) {
  return (numel + kPageNumel - 1) / kPageNumel * kPageNumel;
}

std::size_t bytes_of(std::int64_t numel) {
  return static_cast<std::size_t>(numel) * sizeof(float);
}

}  // namespace

struct StateFile::Slot {
  float* values = nullptr;  // quantity by quantity
  std::vector<BlockStore::Transfer> transfers;

  void wait() {
    for (BlockStore::Transfer& transfer : transfers) transfer.wait();
    transfers.clear();
  }
};

StateFile::StateFile(StateFileOptions options)
    : quantities_(options.quantities),
      chunk_numel_(whole_pages(std::max<std::int64_t>(options.chunk_numel, 1))),
      buffer_(bytes_of(kSlots * quantities_ * chunk_numel_)),
      slots_(kSlots),
      file_(std::move(options.store)) {
  float* values = reinterpret_cast<float*>(buffer_.data());
  for (Slot& slot : slots_) {
    slot.values = values;
    values += quantities_ * chunk_numel_;
  }
}

StateFile::~StateFile() = default;

std::int64_t StateFile::add_segment(std::int64_t numel) {
  const std::int64_t first = numel_;
  numel_ += whole_pages(numel);
  return first;
}

std::int64_t StateFile::room_of(std::int64_t numel) {
  return whole_pages(numel);
}

StateFile::Chunk StateFile::chunk(std::int64_t index) const {
  Chunk chunk{.begin = index * chunk_numel_,
              .numel = std::min(chunk_numel_, numel_ - index * chunk_numel_),
              .values = {nullptr, nullptr, nullptr}};
  float* values = slots_[static_cast<std::size_t>(index % kSlots)].values;
  for (int quantity = 0; quantity < quantities_; ++quantity)
    chunk.values[static_cast<std::size_t>(quantity)] = values + quantity * chunk_numel_;
  return chunk;
}

// A chunk's quantities lie behind each other.
std::uint64_t StateFile::offset_of(int quantity, std::int64_t element) const {
  const std::int64_t chunk = element / chunk_numel_;
  return bytes_of((chunk * quantities_ + quantity) * chunk_numel_ + element % chunk_numel_);
}

void StateFile::reserve() {
  if (chunk_count() <= reserved_chunks_) return;
  file_.reserve(offset_of(0, chunk_count() * chunk_numel_));
  reserved_chunks_ = chunk_count();
}

void StateFile::start_read(std::int64_t index) {
  Slot& slot = slots_[static_cast<std::size_t>(index % kSlots)];
  slot.wait();
  const Chunk place = chunk(index);
  for (int quantity = 0; quantity < quantities_; ++quantity) {
    auto* values = reinterpret_cast<std::byte*>(place.values[static_cast<std::size_t>(quantity)]);
    slot.transfers.push_back(
        file_.read_pages(offset_of(quantity, place.begin), values, bytes_of(place.numel)));
  }
}

void StateFile::start_write(std::int64_t index) {
  Slot& slot = slots_[static_cast<std::size_t>(index % kSlots)];
  const Chunk place = chunk(index);
  for (int quantity = 0; quantity < quantities_; ++quantity) {
    const auto* values = reinterpret_cast<std::byte*>(place.values[static_cast<std::size_t>(quantity)]);
    slot.transfers.push_back(
        file_.write_pages(offset_of(quantity, place.begin), values, bytes_of(place.numel)));
  }
}

void StateFile::update(const std::function<void(const Chunk&)>& work) {
  const std::lock_guard lock(mutex_);
  if (numel_ == 0) return;
  reserve();
  start_read(0);
  for (std::int64_t index = 0; index < chunk_count(); ++index) {
    if (index + 1 < chunk_count()) start_read(index + 1);
    slots_[static_cast<std::size_t>(index % kSlots)].wait();
    work(chunk(index));
    start_write(index);
  }
  for (Slot& slot : slots_) slot.wait();
}

// Calls `use` with the parts of [begin, begin + numel) that lie in one chunk: offset in the file, elements of
// the range before it, bytes.
template <typename Use>
void StateFile::for_each_run(int quantity, std::int64_t begin, std::int64_t numel, const Use& use) {
  reserve();
  for (std::int64_t done = 0; done < numel;) {
    const std::int64_t element = begin + done;
    const std::int64_t count = std::min(numel - done, chunk_numel_ - element % chunk_numel_);
    use(offset_of(quantity, element), done, bytes_of(count));
    done += count;
  }
}

void StateFile::read(int quantity, std::int64_t begin, std::int64_t numel, float* values) {
  const std::lock_guard lock(mutex_);
  for_each_run(quantity, begin, numel, [&](std::uint64_t offset, std::int64_t first, std::size_t bytes) {
    file_.read(offset, reinterpret_cast<std::byte*>(values + first), bytes);
  });
}

void StateFile::write(int quantity, std::int64_t begin, std::int64_t numel, const float* values) {
  const std::lock_guard lock(mutex_);
  for_each_run(quantity, begin, numel, [&](std::uint64_t offset, std::int64_t first, std::size_t bytes) {
    file_.write(offset, reinterpret_cast<const std::byte*>(values + first), bytes);
  });
  file_.flush();
}

std::int64_t StateFile::buffer_bytes() const {
  return static_cast<std::int64_t>(buffer_.bytes()) + file_.buffer_bytes();
}

std::string StateFile::description() const {
  return file_.description();
}

}  // namespace deepscale
