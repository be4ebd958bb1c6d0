// A shared library that is opened at run time, because it may be missing. One implementation per platform.
//
// A value that is cheap to copy; any thread may use it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace deepscale {

class DynamicLibrary {
 public:
  // The first of these that the system's search finds; closed when the last copy goes.
  static std::optional<DynamicLibrary> open(const std::vector<std::string>& names);
  // For a library with threads and state of its own: never closed. Error(kNotFound) with the system's reason.
  static DynamicLibrary load(const std::string& name);

  // nullptr when the library has no such function.
  template <typename Signature>
  Signature* function(const char* name) const {
    return reinterpret_cast<Signature*>(symbol(name));
  }

 private:
  explicit DynamicLibrary(std::shared_ptr<void> handle) : handle_(std::move(handle)) {}
  void* symbol(const char* name) const;

  std::shared_ptr<void> handle_;
};

}  // namespace deepscale
