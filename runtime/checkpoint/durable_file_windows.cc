#include <windows.h>

#include <fmt/core.h>

#include <algorithm>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"
#include "runtime/checkpoint/durable_file.h"

namespace deepscale {
namespace {

HANDLE as_handle(std::intptr_t value) {
  return reinterpret_cast<HANDLE>(value);
}

}  // namespace

DurableFile::DurableFile(const std::filesystem::path& path)
    : path_(path),
      handle_(reinterpret_cast<std::intptr_t>(CreateFileW(path.wstring().c_str(), GENERIC_WRITE, 0, nullptr,
                                                          CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, nullptr))) {
  if (as_handle(handle_) == INVALID_HANDLE_VALUE) fail("create");
}

DurableFile::~DurableFile() {
  if (handed_over_.valid()) handed_over_.wait();
  CloseHandle(as_handle(handle_));
}

void DurableFile::fail(const char* what) const {
  throw Error(ErrorCode::kSystem,
              fmt::format("cannot {} {}: {}", what, path_.string(), windows_error_text(GetLastError())));
}

void DurableFile::hand_over(const std::byte* data, std::size_t bytes) {
  while (bytes > 0) {
    DWORD written = 0;
    const DWORD most = static_cast<DWORD>(std::min<std::size_t>(bytes, 1 << 30));
    if (WriteFile(as_handle(handle_), data, most, &written, nullptr) == 0) fail("write to");
    data += written;
    bytes -= written;
  }
}

// An open file cannot change to it here, so that none goes past it.
void DurableFile::use_cache() {}

void DurableFile::rewind() {
  write_rest();
  if (SetFilePointerEx(as_handle(handle_), {}, nullptr, FILE_BEGIN) == 0) fail("go back in");
}

void DurableFile::finish() {
  write_rest();
  if (FlushFileBuffers(as_handle(handle_)) == 0) fail("flush");
}

void flush_folder(const std::filesystem::path&) {}

}  // namespace deepscale
