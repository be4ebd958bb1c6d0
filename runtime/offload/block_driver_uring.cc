// io_uring through liburing: one system call starts what is new and waits for what has ended.
#include <liburing.h>

#include <cerrno>

#include "runtime/offload/block_file.h"

namespace deepscale {
namespace {

class UringDriver final : public BlockDriver {
 public:
  UringDriver(int descriptor, io_uring ring) : descriptor_(descriptor), ring_(ring) {}
  ~UringDriver() override { io_uring_queue_exit(&ring_); }

  std::error_code start(int slot, const BlockOperation& operation) override {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) return std::make_error_code(std::errc::resource_unavailable_try_again);
    const auto bytes = static_cast<unsigned>(operation.bytes);
    if (operation.is_write) {
      io_uring_prep_write(entry, descriptor_, operation.data, bytes, operation.offset);
    } else {
      io_uring_prep_read(entry, descriptor_, operation.data, bytes, operation.offset);
    }
    io_uring_sqe_set_data(entry, reinterpret_cast<void*>(static_cast<std::intptr_t>(slot)));
    return {};
  }

  Completion wait() override {
    // What start() prepared goes to the kernel here; interrupted or short of memory, it is tried again.
    io_uring_cqe* entry = nullptr;
    while (io_uring_peek_cqe(&ring_, &entry) != 0 || io_uring_sq_ready(&ring_) > 0) {
      io_uring_submit_and_wait(&ring_, entry == nullptr ? 1 : 0);
    }
    Completion completion{
        .slot = static_cast<int>(reinterpret_cast<std::intptr_t>(io_uring_cqe_get_data(entry)))};
    if (entry->res < 0) {
      completion.error = {-entry->res, std::generic_category()};
    } else {
      completion.bytes = static_cast<std::size_t>(entry->res);
    }
    io_uring_cqe_seen(&ring_, entry);
    return completion;
  }

  const char* name() const override { return "io_uring"; }

 private:
  int descriptor_;
  io_uring ring_;
};

}  // namespace

std::unique_ptr<BlockDriver> make_block_driver(const BlockFile& file, int depth) {
  io_uring ring;
  if (io_uring_queue_init(static_cast<unsigned>(depth), &ring, 0) != 0) return nullptr;
  return std::make_unique<UringDriver>(static_cast<int>(file.handle()), ring);
}

}  // namespace deepscale
