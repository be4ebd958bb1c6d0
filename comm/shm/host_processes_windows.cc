#include <windows.h>

#include <fmt/core.h>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"
#include "comm/shm/host_processes.h"

namespace deepscale::shm {

namespace {

std::uint64_t birth_of(HANDLE process) {
  FILETIME birth{}, end{}, in_kernel{}, in_user{};
  if (!GetProcessTimes(process, &birth, &end, &in_kernel, &in_user)) return 0;
  return (std::uint64_t{birth.dwHighDateTime} << 32) | birth.dwLowDateTime;
}

}  // namespace

ProcessIdentity own_process() {
  return {GetCurrentProcessId(), birth_of(GetCurrentProcess())};
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

// Its birth is looked at while it is held.
std::optional<PeerProcess> PeerProcess::find(const ProcessIdentity& identity) {
  const HANDLE process =
      OpenProcess(SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION, FALSE, static_cast<DWORD>(identity.id));
  if (process == nullptr && GetLastError() == ERROR_INVALID_PARAMETER) return std::nullopt;
  if (process == nullptr) {
    throw Error(ErrorCode::kSystem,
                fmt::format("cannot watch process {}: {}", identity.id, windows_error_text(GetLastError())));
  }
  PeerProcess found(std::make_unique<Handle>(process));
  if (birth_of(process) != identity.birth) return std::nullopt;
  return found;
}

PeerProcess::PeerProcess(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
PeerProcess::PeerProcess(PeerProcess&&) noexcept = default;
PeerProcess& PeerProcess::operator=(PeerProcess&&) noexcept = default;
PeerProcess::~PeerProcess() = default;

bool PeerProcess::has_ended() const {
  return WaitForSingleObject(handle_->process, 0) == WAIT_OBJECT_0;
}

}  // namespace deepscale::shm
