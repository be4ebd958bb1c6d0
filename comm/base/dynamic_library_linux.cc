#include <dlfcn.h>
#include <fmt/core.h>

#include "comm/base/dynamic_library.h"
#include "comm/base/error.h"

namespace deepscale {

std::optional<DynamicLibrary> DynamicLibrary::open(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    void* handle = dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (handle != nullptr)
      return DynamicLibrary(std::shared_ptr<void>(handle, [](void* library) { dlclose(library); }));
  }
  return std::nullopt;
}

DynamicLibrary DynamicLibrary::load(const std::string& name) {
  void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* reason = dlerror();  // begins with the name
    throw Error(ErrorCode::kNotFound, reason != nullptr ? reason : fmt::format("{} cannot be loaded", name));
  }
  return DynamicLibrary(std::shared_ptr<void>(handle, [](void*) {}));
}

void* DynamicLibrary::symbol(const char* name) const {
  return dlsym(handle_.get(), name);
}

}  // namespace deepscale
