#include "runtime/checkpoint/live_bytes.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace deepscale {
namespace {

constexpr std::int64_t kBlockBytes = 1 << 20;

}  // namespace

ByteSource LiveBytes::add(const void* data, std::int64_t bytes) {
  return add({bytes_, static_cast<const std::byte*>(data), nullptr}, bytes);
}

ByteSource LiveBytes::add(ByteSource source, std::int64_t bytes) {
  return add({bytes_, nullptr, std::move(source)}, bytes);
}

ByteSource LiveBytes::add(Run run, std::int64_t bytes) {
  const Run& added = runs_.emplace_back(std::move(run));
  bytes_ += bytes;
  back_ = bytes_;
  return [this, &added](std::int64_t begin, std::int64_t count, void* destination) {
    read(added, begin, count, static_cast<std::byte*>(destination));
  };
}

void LiveBytes::read(const Run& run, std::int64_t begin, std::int64_t bytes, std::byte* destination) {
  const std::int64_t position = run.begin + begin;
  std::unique_lock lock(mutex_);
  const std::int64_t live = std::clamp<std::int64_t>(back_ - position, 0, bytes);
  front_ = position + live;
  is_reading_ = live > 0;
  if (is_reading_) {
    lock.unlock();
    if (run.data == nullptr) {
      run.source(begin, live, destination);
    } else {
      std::memcpy(destination, run.data + begin, static_cast<std::size_t>(live));
    }
    lock.lock();
    is_reading_ = false;
    changed_.notify_all();
  }
  if (live < bytes) read_copies(position + live, position + bytes, destination + live, lock);
}

void LiveBytes::read_copies(std::int64_t begin, std::int64_t end, std::byte* destination,
                            std::unique_lock<std::mutex>& lock) {
  while (begin < end) {
    changed_.wait(lock, [&] { return !copies_.empty() && copies_.front().begin <= begin; });
    const Block& block = copies_.front();
    const std::int64_t count = std::min(end, block.end) - begin;
    std::memcpy(destination, block.bytes.get() + (begin - block.begin), static_cast<std::size_t>(count));
    begin += count;
    destination += count;
    if (begin == block.end) copies_.pop_front();
  }
}

LiveBytes::Block LiveBytes::last_live_block() const {
  auto run = std::prev(runs_.end());
  while (run->begin >= back_) --run;
  if (run->data == nullptr) return {};
  const std::int64_t begin = std::max({front_, run->begin, back_ - kBlockBytes});
  const std::int64_t bytes = back_ - begin;
  return {
      .begin = begin,
      .end = back_,
      .live = run->data + (begin - run->begin),
      .bytes = std::unique_ptr<std::byte[]>(new (std::nothrow) std::byte[static_cast<std::size_t>(bytes)])};
}

void LiveBytes::release() {
  std::unique_lock lock(mutex_);
  while (front_ < back_) {
    Block block = last_live_block();
    if (!block.bytes) {  // the reader is nearer to it
      changed_.wait(lock);
      continue;
    }
    back_ = block.begin;
    lock.unlock();
    std::memcpy(block.bytes.get(), block.live, static_cast<std::size_t>(block.end - block.begin));
    lock.lock();
    copies_.push_front(std::move(block));
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return !is_reading_; });
}

void LiveBytes::close() {
  const std::lock_guard lock(mutex_);
  front_ = bytes_;
  is_reading_ = false;
  copies_.clear();
  changed_.notify_all();
}

}  // namespace deepscale
