// Overlapped I/O with a completion port.
#include <windows.h>

#include <vector>

#include "runtime/offload/block_file.h"

namespace deepscale {
namespace {

class OverlappedDriver final : public BlockDriver {
 public:
  OverlappedDriver(HANDLE file, HANDLE port, int depth)
      : file_(file), port_(port), slots_(static_cast<std::size_t>(depth)) {}
  ~OverlappedDriver() override { ::CloseHandle(port_); }

  std::error_code start(int slot, const BlockOperation& operation) override {
    OVERLAPPED& overlapped = slots_[static_cast<std::size_t>(slot)];
    overlapped = {};
    overlapped.Offset = static_cast<DWORD>(operation.offset);
    overlapped.OffsetHigh = static_cast<DWORD>(operation.offset >> 32);
    const auto bytes = static_cast<DWORD>(operation.bytes);
    const BOOL started = operation.is_write ? ::WriteFile(file_, operation.data, bytes, nullptr, &overlapped)
                                            : ::ReadFile(file_, operation.data, bytes, nullptr, &overlapped);
    if (started || ::GetLastError() == ERROR_IO_PENDING) return {};
    return {static_cast<int>(::GetLastError()), std::system_category()};
  }

  Completion wait() override {
    DWORD bytes = 0;
    ULONG_PTR key = 0;
    OVERLAPPED* ended = nullptr;
    const BOOL succeeded = ::GetQueuedCompletionStatus(port_, &bytes, &key, &ended, INFINITE);
    Completion completion{.slot = static_cast<int>(ended - slots_.data()), .bytes = bytes};
    if (!succeeded) completion.error = {static_cast<int>(::GetLastError()), std::system_category()};
    return completion;
  }

  const char* name() const override { return "overlapped I/O"; }

 private:
  HANDLE file_;
  HANDLE port_;
  std::vector<OVERLAPPED> slots_;
};

}  // namespace

std::unique_ptr<BlockDriver> make_block_driver(const BlockFile& file, int depth) {
  const HANDLE handle = reinterpret_cast<HANDLE>(file.handle());
  const HANDLE port = ::CreateIoCompletionPort(handle, nullptr, 0, 1);
  if (port == nullptr) return nullptr;
  return std::make_unique<OverlappedDriver>(handle, port, depth);
}

}  // namespace deepscale
