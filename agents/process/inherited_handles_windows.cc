#include "agents/process/inherited_handles_windows.h"

#include <windows.h>

#include <fmt/core.h>

#include <algorithm>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"

namespace deepscale {

void InheritedHandles::set(const std::vector<void*>& handles) {
  for (void* handle : handles) {
    const bool is_known = std::find(handles_.begin(), handles_.end(), handle) != handles_.end();
    if (handle == nullptr || handle == INVALID_HANDLE_VALUE || is_known) continue;
    SetHandleInformation(handle, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);
    handles_.push_back(handle);
  }
  SIZE_T bytes = 0;
  InitializeProcThreadAttributeList(nullptr, 1, 0, &bytes);  // fails, and says how much it needs
  std::vector<std::byte> storage(bytes);
  const auto list = reinterpret_cast<LPPROC_THREAD_ATTRIBUTE_LIST>(storage.data());
  if (InitializeProcThreadAttributeList(list, 1, 0, &bytes) != 0) {
    storage_ = std::move(storage);  // the memory stays where it is
    if (UpdateProcThreadAttribute(list, 0, PROC_THREAD_ATTRIBUTE_HANDLE_LIST, handles_.data(),
                                  handles_.size() * sizeof(void*), nullptr, nullptr) != 0) {
      return;
    }
  }
  throw Error(ErrorCode::kSystem, fmt::format("cannot list the handles that a child inherits: {}",
                                              windows_error_text(GetLastError())));
}

InheritedHandles::~InheritedHandles() {
  if (!storage_.empty())
    DeleteProcThreadAttributeList(reinterpret_cast<LPPROC_THREAD_ATTRIBUTE_LIST>(storage_.data()));
}

}  // namespace deepscale
