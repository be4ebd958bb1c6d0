#include "launcher/run/standard_stream.h"

#include <windows.h>

#include <algorithm>

namespace deepscale {

std::error_code write_standard_stream(StandardStream stream, std::string_view text) {
  const HANDLE handle = GetStdHandle(stream == StandardStream::kOut ? STD_OUTPUT_HANDLE : STD_ERROR_HANDLE);
  while (!text.empty()) {
    const DWORD most = static_cast<DWORD>(std::min<std::size_t>(text.size(), 1 << 20));
    DWORD written = 0;
    if (WriteFile(handle, text.data(), most, &written, nullptr) == 0) {
      const auto error = static_cast<int>(GetLastError());
      const bool reader_is_gone =
          error == ERROR_BROKEN_PIPE || error == ERROR_NO_DATA || error == ERROR_INVALID_HANDLE;
      return reader_is_gone ? std::make_error_code(std::errc::broken_pipe)
                            : std::error_code(error, std::system_category());
    }
    text.remove_prefix(written);
  }
  return {};
}

void shield_thread_from_signals() {}  // Windows has neither
void reserve_standard_streams() {}    // they have no numbers that others could get

}  // namespace deepscale
