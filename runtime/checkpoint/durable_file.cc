#include "runtime/checkpoint/durable_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "comm/base/error.h"

namespace deepscale {
namespace {

// A multiple of what file systems ask of a direct write.
constexpr std::size_t kBufferBytes = 1 << 20;

}  // namespace

void DurableFile::write(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const std::span<std::byte> space = room();
    const std::size_t count = std::min(bytes, space.size());
    std::memcpy(space.data(), next, count);
    advance(count);
    next += count;
    bytes -= count;
  }
}

// The buffer has place for whole units where its rest is none.
std::span<std::byte> DurableFile::room() {
  if (!filling_) filling_ = allocate_direct(kBufferBytes + kRoomUnit);
  const std::size_t rest = kBufferBytes - filled_;
  return {filling_.get() + filled_, (rest + kRoomUnit - 1) / kRoomUnit * kRoomUnit};
}

void DurableFile::advance(std::size_t bytes) {
  filled_ += bytes;
  if (filled_ >= kBufferBytes) begin_handing_over();
}

void DurableFile::begin_handing_over() {
  settle();
  std::swap(filling_, leaving_);
  const std::size_t surplus = std::exchange(filled_, 0) - kBufferBytes;
  std::memcpy(room().data(), leaving_.get() + kBufferBytes, surplus);
  filled_ = surplus;
  handed_over_ = std::async(std::launch::async, [this] { hand_over(leaving_.get(), kBufferBytes); });
}

void DurableFile::settle() {
  if (handed_over_.valid()) handed_over_.get();
}

// What is no whole buffer goes through the cache: it has any size, and stands anywhere.
void DurableFile::write_rest() {
  settle();
  use_cache();
  hand_over(filling_.get(), std::exchange(filled_, 0));
}

void replace_file(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::path beside = path;
  beside += ".incomplete";
  {
    DurableFile file(beside);
    file.write(text.data(), text.size());
    file.finish();
  }
  std::error_code failure;
  std::filesystem::rename(beside, path, failure);
  if (failure) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot replace {}: {}", path.string(), failure.message()));
  }
  flush_folder(path.parent_path());
}

}  // namespace deepscale
