#include <dlfcn.h>
#include <fmt/core.h>

#include <filesystem>

#include "comm/base/error.h"
#include "comm/gloo/module.h"

namespace deepscale::gloo {

namespace {

constexpr const char* kName = "libdeepscale_gloo.so";

void* open_isolated(const std::string& path) {
  return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
}

void* find_module() {
  std::error_code failure;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", failure).parent_path();
  for (const auto& path : {folder / kName, folder.parent_path() / "lib" / kName}) {
    if (std::filesystem::exists(path, failure)) return open_isolated(path.string());
  }
  return open_isolated(kName);
}

const Functions& load() {
  void* module = find_module();
  void* entry = module != nullptr ? dlsym(module, kEntry) : nullptr;
  if (entry != nullptr) return *reinterpret_cast<Entry*>(entry)();
  const char* reason = dlerror();  // begins with the name
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("Gloo cannot be used: {}. It needs the library libgloo.so.0 (Debian: libgloo0), a build "
                  "that found libgloo-dev, and {} beside the program, in ../lib from there or in "
                  "LD_LIBRARY_PATH; the backend 'tcp' needs none of them",
                  reason != nullptr ? reason : kName, kName));
}

}  // namespace

const Functions& open_module() {
  static const Functions& functions = load();
  return functions;
}

}  // namespace deepscale::gloo
