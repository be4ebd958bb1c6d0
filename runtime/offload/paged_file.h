// A file of offloaded state that is read and written in whole pages, or in any range of bytes through a few
// small buffers. Writes through the buffers end behind the caller's back, at flush() at the latest; whoever
// reads sees what was written before.
//
// One thread at a time. Calls block for file I/O, but read_pages() and write_pages() only for earlier writes.
// Failures are those of BlockStore, of a write possibly at a later call, and after one the file's content is
// undefined.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "runtime/offload/block_store.h"
#include "runtime/offload/host_buffer.h"

namespace deepscale {

class PagedFile {
 public:
  static constexpr std::uint64_t kPageBytes = 4096;
  static constexpr std::uint64_t whole_pages(std::uint64_t bytes) {
    return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  }

  explicit PagedFile(BlockStoreOptions options) : store_(std::move(options)) {}

  // The file holds at least so many bytes from now on (BlockStore::reserve).
  void reserve(std::uint64_t bytes);
  // Reserves room for so many bytes more, which read as zero; returns the offset, at which a page begins.
  std::uint64_t append(std::uint64_t bytes);

  // Offset, address and size are multiples of a page; they pass the buffers by.
  BlockStore::Transfer read_pages(std::uint64_t offset, std::byte* data, std::uint64_t bytes);
  BlockStore::Transfer write_pages(std::uint64_t offset, const std::byte* data, std::uint64_t bytes);

  void read(std::uint64_t offset, std::byte* data, std::uint64_t bytes);
  void write(std::uint64_t offset, const std::byte* data, std::uint64_t bytes);
  void flush();

  std::int64_t buffer_bytes() const { return static_cast<std::int64_t>(buffer_.bytes()); }
  std::string description() const { return store_.description(); }

 private:
  static constexpr std::uint64_t kSlots = 4;
  static constexpr std::uint64_t kSlotBytes = 64 * kPageBytes;

  // The part of a range that goes through one slot, with the pages that it lies in.
  struct Piece {
    std::uint64_t begin, end;
    std::uint64_t first_page, pages_end;
    std::uint64_t pages_bytes() const { return pages_end - first_page; }
  };
  static std::uint64_t piece_count(std::uint64_t offset, std::uint64_t bytes);
  static Piece piece(std::uint64_t offset, std::uint64_t bytes, std::uint64_t index);
  std::byte* slot_memory(std::uint64_t slot);
  void read_torn_pages(const Piece& piece, std::byte* memory);

  std::uint64_t appended_bytes_ = 0;
  HostBuffer buffer_;  // of all slots; allocated when it is first used
  std::array<BlockStore::Transfer, kSlots> transfers_;
  std::uint64_t next_slot_ = 0;
  BlockStore store_;  // ends first, since it uses the buffer
};

}  // namespace deepscale
