#include <windows.h>

#include <fmt/core.h>

#include <system_error>

#include "comm/base/dynamic_library.h"
#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"

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

DynamicLibrary DynamicLibrary::load(const std::string& name) {
  const HMODULE handle = LoadLibraryExW(to_wide(name).c_str(), nullptr, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS);
  if (handle == nullptr) {
    const auto code = static_cast<int>(GetLastError());
    throw Error(ErrorCode::kNotFound, fmt::format("{}: {}", name, std::system_category().message(code)));
  }
  return DynamicLibrary(std::shared_ptr<void>(handle, [](void*) {}));
}

void* DynamicLibrary::symbol(const char* name) const {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(handle_.get()), name));
}

}  // namespace deepscale
