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
    if (!filling_) filling_ = allocate_direct(kBufferBytes);
    const std::size_t count = std::min(bytes, kBufferBytes - filled_);
    std::memcpy(filling_.get() + filled_, next, count);
    filled_ += count;
    next += count;
    bytes -= count;
    if (filled_ == kBufferBytes) begin_handing_over();
  }
}

void DurableFile::begin_handing_over() {
  settle();
  std::swap(filling_, leaving_);
  filled_ = 0;
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
