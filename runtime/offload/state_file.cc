#include "runtime/offload/state_file.h"

#include <algorithm>
#include <cstring>

#include "runtime/offload/block_file.h"

namespace deepscale {
namespace {

constexpr std::int64_t kPageNumel = kBlockAlignment / sizeof(float);
constexpr std::int64_t kPieceNumel = 256 * kPageNumel;

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
      store_(std::move(options.store)) {
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
  store_.reserve(offset_of(0, chunk_count() * chunk_numel_));
  reserved_chunks_ = chunk_count();
}

void StateFile::start_read(std::int64_t index) {
  Slot& slot = slots_[static_cast<std::size_t>(index % kSlots)];
  slot.wait();
  const Chunk place = chunk(index);
  for (int quantity = 0; quantity < quantities_; ++quantity) {
    auto* values = reinterpret_cast<std::byte*>(place.values[static_cast<std::size_t>(quantity)]);
    slot.transfers.push_back(store_.read(offset_of(quantity, place.begin), values, bytes_of(place.numel)));
  }
}

void StateFile::start_write(std::int64_t index) {
  Slot& slot = slots_[static_cast<std::size_t>(index % kSlots)];
  const Chunk place = chunk(index);
  for (int quantity = 0; quantity < quantities_; ++quantity) {
    const auto* values = reinterpret_cast<std::byte*>(place.values[static_cast<std::size_t>(quantity)]);
    slot.transfers.push_back(store_.write(offset_of(quantity, place.begin), values, bytes_of(place.numel)));
  }
}

void StateFile::update(const std::function<void(const Chunk&)>& work) {
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

// Elements [begin, begin + numel) in the caller's order; `first_page` is the element that the buffer begins
// with.
struct StateFile::Piece {
  std::int64_t begin;
  std::int64_t numel;
  std::int64_t first_page;
  std::int64_t pages_numel;
  float* buffer;

  bool is_whole() const { return numel == pages_numel; }
};

void StateFile::for_each_piece(std::int64_t begin, std::int64_t numel,
                               const std::function<void(const Piece&)>& use) {
  reserve();
  if (piece_buffer_.bytes() == 0) piece_buffer_ = HostBuffer(bytes_of(kPieceNumel));
  const std::int64_t end = begin + numel;
  while (begin < end) {
    Piece piece{.begin = begin, .first_page = begin / kPageNumel * kPageNumel};
    const std::int64_t chunk_end = (begin / chunk_numel_ + 1) * chunk_numel_;
    const std::int64_t piece_end = std::min({end, chunk_end, piece.first_page + kPieceNumel});
    piece.numel = piece_end - begin;
    piece.pages_numel = whole_pages(piece_end - piece.first_page);
    piece.buffer = reinterpret_cast<float*>(piece_buffer_.data());
    use(piece);
    begin = piece_end;
  }
}

void StateFile::read(int quantity, std::int64_t begin, std::int64_t numel, float* values) {
  for_each_piece(begin, numel, [&](const Piece& piece) {
    store_
        .read(offset_of(quantity, piece.first_page), reinterpret_cast<std::byte*>(piece.buffer),
              bytes_of(piece.pages_numel))
        .wait();
    std::memcpy(values + (piece.begin - begin), piece.buffer + (piece.begin - piece.first_page),
                bytes_of(piece.numel));
  });
}

void StateFile::write(int quantity, std::int64_t begin, std::int64_t numel, const float* values) {
  for_each_piece(begin, numel, [&](const Piece& piece) {
    auto* pages = reinterpret_cast<std::byte*>(piece.buffer);
    const std::uint64_t offset = offset_of(quantity, piece.first_page);
    if (!piece.is_whole()) store_.read(offset, pages, bytes_of(piece.pages_numel)).wait();
    std::memcpy(piece.buffer + (piece.begin - piece.first_page), values + (piece.begin - begin),
                bytes_of(piece.numel));
    store_.write(offset, pages, bytes_of(piece.pages_numel)).wait();
  });
}

std::int64_t StateFile::buffer_bytes() const {
  return static_cast<std::int64_t>(buffer_.bytes() + piece_buffer_.bytes());
}

std::string StateFile::description() const {
  return store_.description();
}

}  // namespace deepscale
