#include <windows.h>

#include <fmt/core.h>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"
#include "comm/shm/host_processes.h"

namespace deepscale::shm {

std::int64_t own_process_id() {
  return GetCurrentProcessId();
}

// Of the process's own group of at most 64 processors.
ProcessorSet usable_processors() {
  DWORD_PTR of_process = 0, of_system = 0;
  if (!GetProcessAffinityMask(GetCurrentProcess(), &of_process, &of_system)) return {};
  return ProcessorSet(of_process);
}

struct PeerProcess::Handle {
  explicit Handle(HANDLE value) : process(value) {}
  ~Handle() { CloseHandle(process); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  const HANDLE process;
};

PeerProcess::PeerProcess(std::int64_t process_id) : id_(process_id) {
  const HANDLE process = OpenProcess(SYNCHRONIZE, FALSE, static_cast<DWORD>(process_id));
  if (process == nullptr) {
    throw Error(ErrorCode::kSystem,
                fmt::format("cannot watch process {}: {}", process_id, windows_error_text(GetLastError())));
  }
  handle_ = std::make_unique<Handle>(process);
}

PeerProcess::PeerProcess(PeerProcess&&) noexcept = default;
PeerProcess::~PeerProcess() = default;

bool PeerProcess::has_ended() const {
  return WaitForSingleObject(handle_->process, 0) == WAIT_OBJECT_0;
}

}  // namespace deepscale::shm
