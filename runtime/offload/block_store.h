// Asynchronous reads and writes of blocks of a file: state that does not fit into memory.
//
// The file is a new one in a folder and ends with its BlockStore, or with the process. Operations go past the
// system's cache: io_uring on Linux, overlapped I/O on Windows, threads where neither works. A request is cut
// into operations of block_bytes, of which queue_depth are in flight at a time; requests run in any order, so
// who reads what he writes waits in between.
//
// read() and write() return at once; the memory must stay until the Transfer was waited for. Offsets,
// addresses and sizes are multiples of 4096 (HostBuffer is aligned so). Thread-safe but for reserve(). The
// end of a BlockStore waits for what is in flight.
//
// Failures: Error(kSystem) that names the file and what the system says, from the constructor, reserve() or
// Transfer::wait(). A failed request may have moved a part of its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace deepscale {

struct BlockStoreOptions {
  std::filesystem::path folder;  // made where it is not there
  std::string name = "state";    // begins the file's name
  std::size_t block_bytes = 1 << 20;
  int queue_depth = 8;
  bool use_threads = false;  // even where the system has asynchronous I/O
};

class BlockStore {
 public:
  struct Request;

  // A request in flight. Its end does not wait.
  class Transfer {
   public:
    Transfer() = default;
    // Blocks until it has ended. Does nothing for one that was never started.
    void wait();

   private:
    friend class BlockStore;
    explicit Transfer(std::shared_ptr<Request> request) : request_(std::move(request)) {}
    std::shared_ptr<Request> request_;
  };

  explicit BlockStore(BlockStoreOptions options);
  ~BlockStore();
  BlockStore(const BlockStore&) = delete;
  BlockStore& operator=(const BlockStore&) = delete;

  // The file holds at least so many bytes from now on; what was never written reads as zero. Blocks while the
  // system allocates them, so that a full disk shows here and not in the midst of training.
  void reserve(std::uint64_t bytes);

  Transfer read(std::uint64_t offset, std::byte* data, std::size_t bytes);
  Transfer write(std::uint64_t offset, const std::byte* data, std::size_t bytes);

  const std::filesystem::path& path() const;
  std::string description() const;  // "io_uring, unbuffered", for the log

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace deepscale
