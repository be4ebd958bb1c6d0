#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "comm/base/error.h"
#include "comm/shm/random_name.h"
#include "comm/shm/shared_segment.h"

namespace deepscale::shm {

namespace {

[[noreturn]] void fail(const std::string& what, int error) {
  throw Error(ErrorCode::kSystem, fmt::format("{}: {}", what, std::generic_category().message(error)));
}

// The number after `label` in a file of the kernel; nothing when it is not there ("max": no limit).
std::optional<std::uint64_t> read_number(const char* path, const std::string& label) {
  std::ifstream file(path);
  std::string word;
  std::uint64_t number = 0;
  while (!label.empty() && word != label && file >> word) {
  }
  return file >> number ? std::optional(number) : std::nullopt;
}

// Memory without a file has no limit of its own: the kernel would rather kill somebody than refuse it. So
// what there is, in the machine and in the container, is asked for before.
std::uint64_t available_bytes() {
  auto available = std::numeric_limits<std::uint64_t>::max();
  if (const auto kibibytes = read_number("/proc/meminfo", "MemAvailable:")) available = *kibibytes * 1024;
  const auto limit = read_number("/sys/fs/cgroup/memory.max", "");
  const auto used = read_number("/sys/fs/cgroup/memory.current", "");
  if (limit && used) available = std::min(available, *limit > *used ? *limit - *used : 0);
  return available;
}

std::string where_it_leads(const std::string& link) {
  std::array<char, 256> target{};
  const ssize_t length = readlink(link.c_str(), target.data(), target.size());
  return std::string(target.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
}

}  // namespace

struct SharedSegment::Handle {
  explicit Handle(int descriptor) : fd(descriptor) {}
  ~Handle() { close(fd); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  const int fd;
};

namespace {

void require_room(std::size_t bytes) {
  const std::uint64_t available = available_bytes();
  if (bytes <= available) return;
  throw Error(ErrorCode::kSystem,
              fmt::format("there is no room for a shared memory segment of {} bytes: {} bytes are available",
                          bytes, available));
}

std::byte* map(int fd, std::size_t bytes, SharedSegment::Pages pages) {
  const int flags = pages == SharedSegment::Pages::kAtOnce ? MAP_SHARED | MAP_POPULATE : MAP_SHARED;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (data == MAP_FAILED) fail(fmt::format("cannot map {} bytes of shared memory", bytes), errno);
  return static_cast<std::byte*>(data);
}

}  // namespace

SharedSegment SharedSegment::create(std::size_t bytes, Pages pages) {
  SharedSegment segment;
  const std::string ticket = random_name();
  const int fd = memfd_create(ticket.c_str(), MFD_CLOEXEC);
  if (fd < 0) fail("cannot create shared memory (memfd_create)", errno);
  segment.handle_ = std::make_unique<Handle>(fd);
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    fail(fmt::format("cannot make a shared memory segment of {} bytes", bytes), errno);
  }
  if (pages == Pages::kAtOnce) segment.take(0, bytes);
  segment.data_ = map(fd, bytes, pages);
  segment.size_ = bytes;
  segment.name_ = fmt::format("{} {} {}", getpid(), fd, ticket);
  return segment;
}

SharedSegment SharedSegment::open(const std::string& name, std::size_t bytes, Pages pages) {
  std::istringstream words(name);
  long pid = 0;
  int creator_fd = 0;
  std::string ticket;
  words >> pid >> creator_fd >> ticket;
  const std::string path = fmt::format("/proc/{}/fd/{}", pid, creator_fd);
  // Only a memfd: to open whatever else a stranger with that pid has there might have effects.
  const std::string expected = fmt::format("/memfd:{} (deleted)", ticket);
  if (where_it_leads(path) != expected) {
    throw Error(ErrorCode::kSystem,
                fmt::format("{} is not the shared memory of a rank; do all ranks run on this host, in one "
                            "container, as the same user?",
                            path));
  }
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) fail("cannot open the shared memory " + path, errno);
  auto handle = std::make_unique<Handle>(fd);
  struct stat status {};
  if (where_it_leads(fmt::format("/proc/self/fd/{}", fd)) != expected || fstat(fd, &status) != 0 ||
      static_cast<std::size_t>(status.st_size) != bytes) {
    throw Error(ErrorCode::kSystem, fmt::format("{} is not the expected shared memory of {} bytes; run the "
                                                "same build everywhere",
                                                path, bytes));
  }
  SharedSegment segment;
  segment.data_ = map(fd, bytes, pages);
  segment.size_ = bytes;
  if (pages == Pages::kLater) segment.handle_ = std::move(handle);
  return segment;
}

void SharedSegment::take(std::size_t offset, std::size_t bytes) {
  require_room(bytes);
  const int error = posix_fallocate(handle_->fd, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  if (error != 0) fail(fmt::format("there is no room for {} bytes of shared memory", bytes), error);
}

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
  if (data_ != nullptr) munmap(data_, size_);
}

void SharedSegment::forget_name() {
  handle_.reset();
  name_.clear();
}

}  // namespace deepscale::shm
