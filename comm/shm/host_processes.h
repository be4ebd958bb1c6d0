// What a rank has to know about the processes and processors of its host.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>

namespace deepscale::shm {

std::int64_t own_process_id();

using ProcessorSet = std::bitset<1024>;
// The processors that this process may run on.
ProcessorSet usable_processors();

// Another process of this host, held so that its number cannot come to mean another one.
class PeerProcess {
 public:
  // Error(kSystem) when there is no such process or it cannot be watched.
  explicit PeerProcess(std::int64_t process_id);
  PeerProcess(PeerProcess&&) noexcept;
  ~PeerProcess();

  // True from the moment it ends, whatever ended it, also while nobody has reaped it.
  bool has_ended() const;
  std::int64_t id() const { return id_; }

 private:
  struct Handle;
  std::int64_t id_;
  std::unique_ptr<Handle> handle_;
};

}  // namespace deepscale::shm
