// Memory that several processes of one host map.
//
// One process creates a segment and tells the others its name; they open it. The system frees the memory when
// the last process that mapped it has ended, however it ended: a segment has no place in any folder (Linux:
// memfd, reached through /proc/<pid>/fd; Windows: a named mapping without a file), so nothing has to be
// removed, also not after kill -9 of everybody. That also makes it independent of the size of /dev/shm.
//
// A movable owner of one mapping. The bytes begin at zero and at a page; what synchronises the processes is
// up to their users.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace deepscale::shm {

class SharedSegment {
 public:
  // kAtOnce: create() takes all of the memory, so that a lack of it is an Error(kSystem) there and no signal
  // later, and the pages are entered into this process, which spares the first operations their faults.
  // kLater: neither; take() takes parts.
  enum class Pages { kAtOnce, kLater };

  static SharedSegment create(std::size_t bytes, Pages pages = Pages::kAtOnce);
  // `name` comes from name() of the creator. Error(kSystem) when there is no such segment on this host, for
  // example because the creator runs on another one, in another container, or has ended.
  static SharedSegment open(const std::string& name, std::size_t bytes, Pages pages = Pages::kAtOnce);

  // Takes the memory of these bytes, which keep their values; Error(kSystem) where there is not enough. Not
  // after forget_name(). Windows takes all of it in create().
  void take(std::size_t offset, std::size_t bytes);

  SharedSegment(SharedSegment&&) noexcept;
  SharedSegment& operator=(SharedSegment&&) noexcept;
  ~SharedSegment();

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  // Under which others can open it until forget_name() or the end of this object; at most kNameLength bytes.
  const std::string& name() const { return name_; }
  void forget_name();

  static constexpr std::size_t kNameLength = 96;

 private:
  struct Handle;  // what keeps the name valid, and on Windows the mapping
  SharedSegment();

  std::unique_ptr<Handle> handle_;
  std::string name_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace deepscale::shm
