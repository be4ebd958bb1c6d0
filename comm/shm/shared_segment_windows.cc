#include <windows.h>

#include <fmt/core.h>

#include <utility>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"
#include "comm/shm/random_name.h"
#include "comm/shm/shared_segment.h"

namespace deepscale::shm {

namespace {

[[noreturn]] void fail(const std::string& what) {
  throw Error(ErrorCode::kSystem, fmt::format("{}: {}", what, windows_error_text(GetLastError())));
}

std::byte* map(HANDLE mapping, std::size_t bytes) {
  void* data = MapViewOfFile(mapping, FILE_MAP_ALL_ACCESS, 0, 0, bytes);
  if (data == nullptr) fail(fmt::format("cannot map {} bytes of shared memory", bytes));
  return static_cast<std::byte*>(data);
}

}  // namespace

struct SharedSegment::Handle {
  explicit Handle(HANDLE value) : mapping(value) {}
  ~Handle() { CloseHandle(mapping); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  const HANDLE mapping;
};

// Windows commits all of the memory here, and enters pages when they are touched.
SharedSegment SharedSegment::create(std::size_t bytes, Pages) {
  SharedSegment segment;
  segment.name_ = "Local\\" + random_name();
  const auto size = static_cast<unsigned long long>(bytes);
  const HANDLE mapping = CreateFileMappingW(
      INVALID_HANDLE_VALUE, nullptr, PAGE_READWRITE | SEC_COMMIT, static_cast<DWORD>(size >> 32),
      static_cast<DWORD>(size & 0xffffffffu), to_wide(segment.name_).c_str());
  if (mapping == nullptr) {
    fail(fmt::format("there is no room for a shared memory segment of {} bytes", bytes));
  }
  segment.handle_ = std::make_unique<Handle>(mapping);
  segment.data_ = map(mapping, bytes);
  segment.size_ = bytes;
  return segment;
}

SharedSegment SharedSegment::open(const std::string& name, std::size_t bytes, Pages) {
  const HANDLE mapping = OpenFileMappingW(FILE_MAP_ALL_ACCESS, FALSE, to_wide(name).c_str());
  if (mapping == nullptr) {
    fail(fmt::format("cannot open the shared memory {}; do all ranks run on this host, in one session?",
                     name));
  }
  const Handle handle(mapping);
  SharedSegment segment;
  segment.data_ = map(mapping, bytes);
  segment.size_ = bytes;
  return segment;
}

void SharedSegment::take(std::size_t, std::size_t) {}

SharedSegment::SharedSegment() = default;

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : handle_(std::move(other.handle_)),
      name_(std::move(other.name_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

SharedSegment& SharedSegment::operator=(SharedSegment&& other) noexcept {
  std::swap(handle_, other.handle_);
  std::swap(name_, other.name_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SharedSegment::~SharedSegment() {
  if (data_ != nullptr) UnmapViewOfFile(data_);
}

void SharedSegment::forget_name() {
  handle_.reset();
  name_.clear();
}

}  // namespace deepscale::shm
