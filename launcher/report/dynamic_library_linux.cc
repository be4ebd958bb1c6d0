#include <dlfcn.h>

#include "launcher/report/dynamic_library.h"

namespace deepscale {

std::optional<DynamicLibrary> DynamicLibrary::open(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    void* handle = dlopen(name.c_str(), RTLD_LAZY | RTLD_LOCAL);
    if (handle != nullptr)
      return DynamicLibrary(std::shared_ptr<void>(handle, [](void* library) { dlclose(library); }));
  }
  return std::nullopt;
}

void* DynamicLibrary::symbol(const char* name) const {
  return dlsym(handle_.get(), name);
}

}  // namespace deepscale
