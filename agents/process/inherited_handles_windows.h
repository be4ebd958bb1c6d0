// The list of handles that a child process inherits, and none besides them: neither a socket of ours, which
// Windows makes inheritable, nor the end of another child's pipe. Used while the child is created; holds
// memory, not the handles.
//
// docs: UpdateProcThreadAttribute, PROC_THREAD_ATTRIBUTE_HANDLE_LIST (learn.microsoft.com).
#pragma once

#include <cstddef>
#include <vector>

namespace deepscale {

class InheritedHandles {
 public:
  InheritedHandles() = default;
  ~InheritedHandles();
  InheritedHandles(const InheritedHandles&) = delete;
  InheritedHandles& operator=(const InheritedHandles&) = delete;

  // Makes these inheritable and the list of them; null ones are left out. Call it once. Error(kSystem).
  void set(const std::vector<void*>& handles);

  // A PPROC_THREAD_ATTRIBUTE_LIST for STARTUPINFOEX, valid as long as this object.
  void* attributes() { return storage_.data(); }

 private:
  std::vector<void*> handles_;
  std::vector<std::byte> storage_;
};

}  // namespace deepscale
