#include <windows.h>

#include <fmt/core.h>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"
#include "runtime/offload/block_file.h"

namespace deepscale {
namespace {

HANDLE handle_of(const BlockFile& file) {
  return reinterpret_cast<HANDLE>(file.handle());
}

std::error_code last_error() {
  return {static_cast<int>(::GetLastError()), std::system_category()};
}

// An event of its own; the low bit keeps the completion out of a completion port.
struct OwnEvent {
  OwnEvent() : event(::CreateEventW(nullptr, TRUE, FALSE, nullptr)) {}
  ~OwnEvent() {
    if (event != nullptr) ::CloseHandle(event);
  }
  HANDLE without_port() const {
    return reinterpret_cast<HANDLE>(reinterpret_cast<std::uintptr_t>(event) | 1u);
  }
  HANDLE event;
};

}  // namespace

BlockFile::BlockFile(const std::filesystem::path& path) {
  const HANDLE handle = ::CreateFileW(
      path.c_str(), GENERIC_READ | GENERIC_WRITE | DELETE, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
      CREATE_NEW, FILE_FLAG_NO_BUFFERING | FILE_FLAG_OVERLAPPED | FILE_FLAG_DELETE_ON_CLOSE, nullptr);
  if (handle == INVALID_HANDLE_VALUE) {
    throw Error(
        ErrorCode::kSystem,
        fmt::format("cannot make the file {} for offloaded state: {}; is nvme_path a folder that this "
                    "process may write to?",
                    path.string(), windows_error_text(::GetLastError())));
  }
  handle_ = reinterpret_cast<std::intptr_t>(handle);
}

BlockFile::~BlockFile() {
  ::CloseHandle(handle_of(*this));
}

std::error_code BlockFile::reserve(std::uint64_t bytes) {
  LARGE_INTEGER end;
  end.QuadPart = static_cast<LONGLONG>(bytes);
  LARGE_INTEGER now;
  if (::GetFileSizeEx(handle_of(*this), &now) && now.QuadPart >= end.QuadPart) return {};
  if (!::SetFilePointerEx(handle_of(*this), end, nullptr, FILE_BEGIN) || !::SetEndOfFile(handle_of(*this)))
    return last_error();
  return {};
}

std::error_code BlockFile::transfer(const BlockOperation& operation) {
  const OwnEvent own;
  if (own.event == nullptr) return last_error();
  for (std::size_t done = 0; done < operation.bytes;) {
    OVERLAPPED overlapped{};
    const std::uint64_t offset = operation.offset + done;
    overlapped.Offset = static_cast<DWORD>(offset);
    overlapped.OffsetHigh = static_cast<DWORD>(offset >> 32);
    overlapped.hEvent = own.without_port();
    std::byte* data = operation.data + done;
    const auto bytes = static_cast<DWORD>(operation.bytes - done);
    const BOOL started = operation.is_write ? ::WriteFile(handle_of(*this), data, bytes, nullptr, &overlapped)
                                            : ::ReadFile(handle_of(*this), data, bytes, nullptr, &overlapped);
    if (!started && ::GetLastError() != ERROR_IO_PENDING) return last_error();
    ::WaitForSingleObject(own.event, INFINITE);
    DWORD moved = 0;
    if (!::GetOverlappedResult(handle_of(*this), &overlapped, &moved, FALSE)) return last_error();
    if (moved == 0) return std::make_error_code(std::errc::io_error);
    done += moved;
  }
  return {};
}

}  // namespace deepscale
