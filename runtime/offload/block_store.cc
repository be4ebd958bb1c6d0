#include "runtime/offload/block_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "comm/base/error.h"
#include "runtime/offload/block_file.h"

namespace deepscale {
namespace {

constexpr int kMostThreads = 8;

std::filesystem::path new_path(const BlockStoreOptions& options) {
  std::error_code failure;
  std::filesystem::create_directories(options.folder, failure);
  if (failure) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot make the folder {} for offloaded state: {}",
                                                options.folder.string(), failure.message()));
  }
  std::random_device random;
  return options.folder / fmt::format("{}.{:08x}{:08x}.offload", options.name, random(), random());
}

}  // namespace

// Guarded by the mutex of its store, which it shares, since it may outlive the store.
struct BlockStore::Request {
  struct Signal {
    std::mutex mutex;
    std::condition_variable ended;
  };
  std::shared_ptr<Signal> signal;
  std::size_t operations_left = 0;
  std::string failure;  // the first one
};

struct BlockStore::Parts {
  explicit Parts(BlockStoreOptions given) : options(std::move(given)), path(new_path(options)), file(path) {
    options.block_bytes = std::max(options.block_bytes / kBlockAlignment, std::size_t{1}) * kBlockAlignment;
    options.queue_depth = std::max(options.queue_depth, 1);
    if (!options.use_threads) driver = make_block_driver(file, options.queue_depth);
    if (driver) {
      threads.emplace_back([this] { drive(); });
    } else {
      for (int i = 0; i < std::min(options.queue_depth, kMostThreads); ++i)
        threads.emplace_back([this] { transfer_blocks(); });
    }
  }
  ~Parts() {
    {
      const std::lock_guard lock(signal->mutex);
      is_ending = true;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

  struct Queued {
    BlockOperation operation;
    std::shared_ptr<Request> request;
  };

  Transfer add(BlockOperation whole);
  bool take(Queued& next, bool blocks);
  void finish(const Queued& done, std::error_code error);
  void transfer_blocks();
  void drive();
  std::string failure_of(const BlockOperation& operation, std::error_code error) const;

  BlockStoreOptions options;
  const std::filesystem::path path;
  BlockFile file;
  std::uint64_t reserved_bytes = 0;
  std::unique_ptr<BlockDriver> driver;

  std::shared_ptr<Request::Signal> signal = std::make_shared<Request::Signal>();
  std::condition_variable work;
  std::deque<Queued> queue;
  bool is_ending = false;
  std::vector<std::thread> threads;
};

BlockStore::Transfer BlockStore::Parts::add(BlockOperation whole) {
  const auto request = std::make_shared<Request>();
  request->signal = signal;
  {
    const std::lock_guard lock(signal->mutex);
    for (std::size_t begin = 0; begin < whole.bytes; begin += options.block_bytes) {
      BlockOperation operation = whole;
      operation.offset += begin;
      operation.data += begin;
      operation.bytes = std::min(options.block_bytes, whole.bytes - begin);
      queue.push_back({operation, request});
      ++request->operations_left;
    }
  }
  work.notify_all();
  return Transfer(request);
}

// False: there is none now, or, where it blocks, will be none.
bool BlockStore::Parts::take(Queued& next, bool blocks) {
  std::unique_lock lock(signal->mutex);
  if (blocks) work.wait(lock, [this] { return is_ending || !queue.empty(); });
  if (queue.empty()) return false;
  next = std::move(queue.front());
  queue.pop_front();
  return true;
}

std::string BlockStore::Parts::failure_of(const BlockOperation& operation, std::error_code error) const {
  return fmt::format(
      "cannot {} {} bytes at offset {} of {}: {}; {}: go on from the last checkpoint, with another nvme_path "
      "where it happens again",
      operation.is_write ? "write" : "read", operation.bytes, operation.offset, path.string(),
      error.message(),
      operation.is_write ? "the disk is full or fails"
                         : "the disk fails, or another program has changed the file");
}

void BlockStore::Parts::finish(const Queued& done, std::error_code error) {
  {
    const std::lock_guard lock(signal->mutex);
    if (error && done.request->failure.empty()) done.request->failure = failure_of(done.operation, error);
    if (--done.request->operations_left > 0) return;
  }
  signal->ended.notify_all();
}

void BlockStore::Parts::transfer_blocks() {
  for (Queued next; take(next, true);) finish(next, file.transfer(next.operation));
}

void BlockStore::Parts::drive() {
  std::vector<Queued> slots(static_cast<std::size_t>(options.queue_depth));
  std::vector<int> free_slots;
  for (int slot = 0; slot < options.queue_depth; ++slot) free_slots.push_back(slot);
  while (true) {
    const bool is_idle = free_slots.size() == slots.size();
    Queued next;
    if (!free_slots.empty() && take(next, /*blocks=*/is_idle)) {
      const int slot = free_slots.back();
      Queued& in_flight = slots[static_cast<std::size_t>(slot)] = std::move(next);
      if (const std::error_code error = driver->start(slot, in_flight.operation)) {
        finish(in_flight, error);
      } else {
        free_slots.pop_back();
      }
      continue;
    }
    if (is_idle) return;
    const BlockDriver::Completion completion = driver->wait();
    Queued& ended = slots[static_cast<std::size_t>(completion.slot)];
    std::error_code error = completion.error;
    if (!error && completion.bytes < ended.operation.bytes) {  // seldom: a signal, the end of the file
      BlockOperation rest = ended.operation;
      const std::size_t done = completion.bytes / kBlockAlignment * kBlockAlignment;
      rest.offset += done;
      rest.data += done;
      rest.bytes -= done;
      error = file.transfer(rest);
    }
    finish(ended, error);
    ended.request.reset();
    free_slots.push_back(completion.slot);
  }
}

void BlockStore::Transfer::wait() {
  if (!request_) return;
  const std::shared_ptr<Request> request = std::move(request_);
  std::unique_lock lock(request->signal->mutex);
  request->signal->ended.wait(lock, [&] { return request->operations_left == 0; });
  if (!request->failure.empty()) throw Error(ErrorCode::kSystem, request->failure);
}

BlockStore::BlockStore(BlockStoreOptions options) : parts_(std::make_unique<Parts>(std::move(options))) {}

BlockStore::~BlockStore() = default;

void BlockStore::reserve(std::uint64_t bytes) {
  // Asked first, since a system that tries would fill the disk up before it says so.
  std::error_code error, unknown;
  const auto space = std::filesystem::space(parts_->options.folder, unknown);
  if (!unknown && bytes > parts_->reserved_bytes && bytes - parts_->reserved_bytes > space.available)
    error = std::make_error_code(std::errc::no_space_on_device);
  if (!error) error = parts_->file.reserve(bytes);
  if (!error) {
    parts_->reserved_bytes = std::max(parts_->reserved_bytes, bytes);
    return;
  }
  throw Error(
      ErrorCode::kSystem,
      fmt::format("cannot reserve {} bytes for offloaded state in {}: {}; {}, or choose another nvme_path",
                  bytes, parts_->path.string(), error.message(),
                  error == std::errc::file_too_large ? "raise the limit for files (ulimit -f)"
                                                     : "free some space there"));
}

BlockStore::Transfer BlockStore::read(std::uint64_t offset, std::byte* data, std::size_t bytes) {
  return parts_->add({.is_write = false, .offset = offset, .data = data, .bytes = bytes});
}

BlockStore::Transfer BlockStore::write(std::uint64_t offset, const std::byte* data, std::size_t bytes) {
  return parts_->add(
      {.is_write = true, .offset = offset, .data = const_cast<std::byte*>(data), .bytes = bytes});
}

const std::filesystem::path& BlockStore::path() const {
  return parts_->path;
}

std::string BlockStore::description() const {
  return fmt::format("{}, {}", parts_->driver ? parts_->driver->name() : "threads",
                     parts_->file.is_unbuffered() ? "unbuffered" : "through the system's cache");
}

}  // namespace deepscale
