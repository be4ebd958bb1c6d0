// The fp32 state of an optimizer in a file: up to three quantities (master weight, moments) of many elements,
// streamed through a few buffers.
//
// Elements are numbered through all segments. A chunk of them is read ahead while the one before it is worked
// on and the one before that is written back; so memory is three chunks, whatever the file's size. Values
// that were never written are zero.
//
// Any thread may update, read and write; one call waits for the other. Calls block for file I/O; failures are
// those of BlockStore, and after one the values are undefined.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/offload/host_buffer.h"
#include "runtime/offload/paged_file.h"

namespace deepscale {

struct StateFileOptions {
  BlockStoreOptions store;
  int quantities = 3;
  std::int64_t chunk_numel = 1 << 20;  // elements; rounded up to whole pages
};

class StateFile {
 public:
  struct Chunk {
    std::int64_t begin;  // number of its first element
    std::int64_t numel;
    std::array<float*, 3> values;  // of each quantity; null for those that there are not
  };

  explicit StateFile(StateFileOptions options);
  ~StateFile();

  // Appends `numel` elements; returns the number of the first. Segments begin at whole pages: elements in
  // between belong to none.
  std::int64_t add_segment(std::int64_t numel);
  static std::int64_t room_of(std::int64_t numel);  // elements from one segment's begin to the next one's
  std::int64_t numel() const { return numel_; }

  // Gives each chunk, in order, to `work`, which may change its values.
  void update(const std::function<void(const Chunk&)>& work);

  void read(int quantity, std::int64_t begin, std::int64_t numel, float* values);
  void write(int quantity, std::int64_t begin, std::int64_t numel, const float* values);

  std::int64_t buffer_bytes() const;
  std::string description() const;

 private:
  static constexpr int kSlots = 3;
  struct Slot;

  std::int64_t chunk_count() const { return (numel_ + chunk_numel_ - 1) / chunk_numel_; }
  Chunk chunk(std::int64_t index) const;
  std::uint64_t offset_of(int quantity, std::int64_t element) const;
  void reserve();
  void start_read(std::int64_t index);
  void start_write(std::int64_t index);
  template <typename Use>
  void for_each_run(int quantity, std::int64_t begin, std::int64_t numel, const Use& use);

  const int quantities_;
  const std::int64_t chunk_numel_;
  std::int64_t numel_ = 0;
  std::int64_t reserved_chunks_ = 0;
  std::mutex mutex_;
  HostBuffer buffer_;  // of all slots
  std::vector<Slot> slots_;
  PagedFile file_;  // ends first, since it uses the buffers
};

}  // namespace deepscale
