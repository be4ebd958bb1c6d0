#include <windows.h>

#include <fmt/format.h>

#include <system_error>

#include "comm/base/error.h"
#include "runtime/inference/direct_file.h"

namespace deepscale {

namespace {

[[noreturn]] void fail(const char* what, const std::filesystem::path& path, DWORD error) {
  const bool missing = error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND;
  throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kSystem,
              fmt::format("cannot {} {}: {}", what, path.string(),
                          std::system_category().message(static_cast<int>(error))));
}

}  // namespace

DirectFile::DirectFile(const std::filesystem::path& path) : path_(path) {
  const HANDLE handle = CreateFileW(path.c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING,
                                    FILE_FLAG_NO_BUFFERING, nullptr);
  if (handle == INVALID_HANDLE_VALUE) fail("open", path, GetLastError());
  handle_ = reinterpret_cast<std::intptr_t>(handle);
}

DirectFile::~DirectFile() {
  CloseHandle(reinterpret_cast<HANDLE>(handle_));
}

std::int64_t DirectFile::read(std::int64_t offset, std::int64_t bytes, std::byte* destination) const {
  std::int64_t done = 0;
  while (done < bytes) {
    OVERLAPPED place{};  // of a read that blocks: it says where to read
    place.Offset = static_cast<DWORD>((offset + done) & 0xffffffff);
    place.OffsetHigh = static_cast<DWORD>((offset + done) >> 32);
    constexpr std::int64_t kMost = 1 << 30;
    const auto asked = static_cast<DWORD>(bytes - done < kMost ? bytes - done : kMost);
    DWORD count = 0;
    if (!ReadFile(reinterpret_cast<HANDLE>(handle_), destination + done, asked, &count, &place)) {
      if (GetLastError() == ERROR_HANDLE_EOF) break;
      fail("read", path_, GetLastError());
    }
    done += count;
    if (count < asked) break;
  }
  return done;
}

}  // namespace deepscale
