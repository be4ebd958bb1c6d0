#include "launcher/run/standard_stream.h"

#include <windows.h>

#include <algorithm>

namespace deepscale {

bool write_standard_stream(StandardStream stream, std::string_view text) {
  const HANDLE handle = GetStdHandle(stream == StandardStream::kOut ? STD_OUTPUT_HANDLE : STD_ERROR_HANDLE);
  while (!text.empty()) {
    const DWORD most = static_cast<DWORD>(std::min<std::size_t>(text.size(), 1 << 20));
    DWORD written = 0;
    if (WriteFile(handle, text.data(), most, &written, nullptr) == 0) return false;
    text.remove_prefix(written);
  }
  return true;
}

void shield_thread_from_signals() {}  // Windows has neither
void reserve_standard_streams() {}    // they have no numbers that others could get

}  // namespace deepscale
