// One file of offloaded state and the ways to move blocks of it. Internal to runtime/offload; block_store.h
// is for others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <system_error>

namespace deepscale {

// Offset, address and bytes are multiples of kBlockAlignment.
inline constexpr std::size_t kBlockAlignment = 4096;

struct BlockOperation {
  bool is_write = false;
  std::uint64_t offset = 0;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

// A new file that no path leads to for long: it ends with its process, however that ends. Past the system's
// cache where the file system can do that. Transfers are thread-safe.
class BlockFile {
 public:
  // Error(kSystem) naming the path.
  explicit BlockFile(const std::filesystem::path& path);
  ~BlockFile();
  BlockFile(const BlockFile&) = delete;
  BlockFile& operator=(const BlockFile&) = delete;

  // The file has at least so many bytes from now on; new ones read as zero.
  std::error_code reserve(std::uint64_t bytes);
  // Blocks until the whole operation is done.
  std::error_code transfer(const BlockOperation& operation);

  std::intptr_t handle() const { return handle_; }
  bool is_unbuffered() const { return is_unbuffered_; }

 private:
  std::intptr_t handle_;
  bool is_unbuffered_ = true;
};

// Keeps several operations of one file going from one thread.
class BlockDriver {
 public:
  struct Completion {
    int slot;
    std::error_code error;
    std::size_t bytes = 0;  // may be fewer than asked for
  };

  virtual ~BlockDriver() = default;
  // `slot`: a number below the depth with no operation in flight. The operation stays with the caller until
  // its completion.
  virtual std::error_code start(int slot, const BlockOperation& operation) = 0;
  // Blocks until one has ended.
  virtual Completion wait() = 0;
  virtual const char* name() const = 0;
};

// Null where the system has none, or does not let us: threads with transfer() do it then.
std::unique_ptr<BlockDriver> make_block_driver(const BlockFile& file, int depth);

}  // namespace deepscale
