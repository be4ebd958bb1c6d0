#include "runtime/offload/paged_file.h"

#include <algorithm>
#include <cstring>

#include "runtime/offload/block_file.h"

namespace deepscale {

static_assert(PagedFile::kPageBytes == kBlockAlignment);

void PagedFile::reserve(std::uint64_t bytes) {
  store_.reserve(bytes);
}

std::uint64_t PagedFile::append(std::uint64_t bytes) {
  const std::uint64_t offset = appended_bytes_;
  store_.reserve(offset + whole_pages(bytes));
  appended_bytes_ = offset + whole_pages(bytes);
  return offset;
}

BlockStore::Transfer PagedFile::read_pages(std::uint64_t offset, std::byte* data, std::uint64_t bytes) {
  flush();
  return store_.read(offset, data, bytes);
}

BlockStore::Transfer PagedFile::write_pages(std::uint64_t offset, const std::byte* data,
                                            std::uint64_t bytes) {
  flush();
  return store_.write(offset, data, bytes);
}

// Slots end at the same places of the file, whatever the range begins with.
std::uint64_t PagedFile::piece_count(std::uint64_t offset, std::uint64_t bytes) {
  return bytes == 0 ? 0 : (offset + bytes - 1) / kSlotBytes - offset / kSlotBytes + 1;
}

PagedFile::Piece PagedFile::piece(std::uint64_t offset, std::uint64_t bytes, std::uint64_t index) {
  const std::uint64_t slot_begin = (offset / kSlotBytes + index) * kSlotBytes;
  const std::uint64_t begin = std::max(offset, slot_begin);
  const std::uint64_t end = std::min(offset + bytes, slot_begin + kSlotBytes);
  return {.begin = begin,
          .end = end,
          .first_page = begin / kPageBytes * kPageBytes,
          .pages_end = whole_pages(end)};
}

std::byte* PagedFile::slot_memory(std::uint64_t slot) {
  if (buffer_.bytes() == 0) buffer_ = HostBuffer(kSlots * kSlotBytes);
  return buffer_.data() + slot * kSlotBytes;
}

void PagedFile::flush() {
  for (BlockStore::Transfer& transfer : transfers_) transfer.wait();
}

void PagedFile::read(std::uint64_t offset, std::byte* data, std::uint64_t bytes) {
  flush();
  const std::uint64_t count = piece_count(offset, bytes);
  std::uint64_t started = 0;
  for (std::uint64_t index = 0; index < count; ++index) {
    for (; started < std::min(count, index + kSlots); ++started) {
      const Piece ahead = piece(offset, bytes, started);
      transfers_[started % kSlots] =
          store_.read(ahead.first_page, slot_memory(started % kSlots), ahead.pages_bytes());
    }
    transfers_[index % kSlots].wait();
    const Piece here = piece(offset, bytes, index);
    std::memcpy(data + (here.begin - offset), slot_memory(index % kSlots) + (here.begin - here.first_page),
                here.end - here.begin);
  }
}

void PagedFile::write(std::uint64_t offset, const std::byte* data, std::uint64_t bytes) {
  for (std::uint64_t index = 0; index < piece_count(offset, bytes); ++index) {
    const Piece here = piece(offset, bytes, index);
    const std::uint64_t slot = next_slot_++ % kSlots;
    transfers_[slot].wait();
    read_torn_pages(here, slot_memory(slot));
    std::memcpy(slot_memory(slot) + (here.begin - here.first_page), data + (here.begin - offset),
                here.end - here.begin);
    transfers_[slot] = store_.write(here.first_page, slot_memory(slot), here.pages_bytes());
  }
}

// Those of which the piece covers a part only.
void PagedFile::read_torn_pages(const Piece& piece, std::byte* memory) {
  const bool first_is_torn = piece.begin != piece.first_page;
  const bool last_is_torn = piece.end != piece.pages_end;
  if (!first_is_torn && !last_is_torn) return;
  flush();
  const std::uint64_t last_page = piece.pages_end - kPageBytes;
  if (first_is_torn) store_.read(piece.first_page, memory, kPageBytes).wait();
  if (last_is_torn && !(first_is_torn && last_page == piece.first_page))
    store_.read(last_page, memory + (last_page - piece.first_page), kPageBytes).wait();
}

}  // namespace deepscale
