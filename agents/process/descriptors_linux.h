// The descriptors between us and a child's supervisor. Only *_linux.cc files include this.
#pragma once

namespace deepscale {

// A descriptor that closes itself, never one of the three standard ones.
class UniqueDescriptor {
 public:
  UniqueDescriptor() = default;
  explicit UniqueDescriptor(int fd);
  UniqueDescriptor(UniqueDescriptor&& other) noexcept : fd_(other.release()) {}
  UniqueDescriptor& operator=(UniqueDescriptor&& other) noexcept;
  ~UniqueDescriptor();

  int get() const { return fd_; }
  int release();

 private:
  int fd_ = -1;
};

struct DescriptorPair {
  UniqueDescriptor ours;
  UniqueDescriptor theirs;
};

// Both ends are closed on exec. std::system_error when the system has none left.
DescriptorPair output_pipe();  // ours does not block
DescriptorPair link_pair();    // a SOCK_SEQPACKET pair
UniqueDescriptor null_input();

}  // namespace deepscale
