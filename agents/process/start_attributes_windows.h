// What a child process gets at its creation beyond CreateProcess's arguments. Used while it is created; holds
// memory, not the handles.
//
//   inherited handles  these and none besides them: neither a socket of ours, which Windows makes
//   inheritable,
//                      nor the end of another child's pipe
//   job                the child is born in it, so there is no moment in which our death would leave it
//   behind
//
// docs: UpdateProcThreadAttribute, PROC_THREAD_ATTRIBUTE_HANDLE_LIST and _JOB_LIST (learn.microsoft.com).
#pragma once

#include <cstddef>
#include <vector>

namespace deepscale {

class StartAttributes {
 public:
  StartAttributes() = default;
  ~StartAttributes();
  StartAttributes(const StartAttributes&) = delete;
  StartAttributes& operator=(const StartAttributes&) = delete;

  // Makes these handles inheritable; null ones are left out. Call it once. Error(kSystem).
  void set(const std::vector<void*>& inherited, void* job);

  // A PPROC_THREAD_ATTRIBUTE_LIST for STARTUPINFOEX, valid as long as this object.
  void* list() { return storage_.data(); }

 private:
  void allocate();
  // Of HANDLEs, which stay in place as long as this object.
  void add(std::size_t attribute, std::vector<void*>& values);

  std::vector<void*> inherited_;
  std::vector<void*> jobs_;
  std::vector<std::byte> storage_;
};

}  // namespace deepscale
