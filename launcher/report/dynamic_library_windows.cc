#include <windows.h>

#include "comm/base/text_encoding_windows.h"
#include "launcher/report/dynamic_library.h"

namespace deepscale {

std::optional<DynamicLibrary> DynamicLibrary::open(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const HMODULE handle = LoadLibraryExW(to_wide(name).c_str(), nullptr, LOAD_LIBRARY_SEARCH_SYSTEM32);
    if (handle == nullptr) continue;
    return DynamicLibrary(
        std::shared_ptr<void>(handle, [](void* library) { FreeLibrary(static_cast<HMODULE>(library)); }));
  }
  return std::nullopt;
}

void* DynamicLibrary::symbol(const char* name) const {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle_.get()), name));
}

}  // namespace deepscale
