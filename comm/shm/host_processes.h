// What a rank has to know about the processes and processors of its host.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>

namespace deepscale::shm {

// A process among all that the host has had: numbers are used again.
struct ProcessIdentity {
  std::int64_t id = 0;
  std::uint64_t birth = 0;  // when it began, in units of the system
};
ProcessIdentity own_process();

using ProcessorSet = std::bitset<1024>;
// The processors that this process may run on.
ProcessorSet usable_processors();

// Another process of this host, held so that its number cannot come to mean another one.
class PeerProcess {
 public:
  // Nothing when it is no more. Error(kSystem) when it cannot be watched.
  static std::optional<PeerProcess> find(const ProcessIdentity& identity);
  PeerProcess(PeerProcess&&) noexcept;
  PeerProcess& operator=(PeerProcess&&) noexcept;
  ~PeerProcess();

  // True from the moment it ends, whatever ended it, also while nobody has reaped it.
  bool has_ended() const;

 private:
  struct Handle;
  explicit PeerProcess(std::unique_ptr<Handle> handle);
  std::unique_ptr<Handle> handle_;
};

}  // namespace deepscale::shm
