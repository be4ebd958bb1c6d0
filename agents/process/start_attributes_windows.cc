#include "agents/process/start_attributes_windows.h"

#include <windows.h>

#include <fmt/core.h>

#include <algorithm>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"

namespace deepscale {
namespace {

constexpr DWORD kAttributes = 2;

Error attribute_error() {
  return Error(ErrorCode::kSystem, fmt::format("cannot set what a child process starts with: {}",
                                               windows_error_text(GetLastError())));
}

LPPROC_THREAD_ATTRIBUTE_LIST as_list(std::vector<std::byte>& storage) {
  return reinterpret_cast<LPPROC_THREAD_ATTRIBUTE_LIST>(storage.data());
}

}  // namespace

void StartAttributes::set(const std::vector<void*>& inherited, void* job) {
  for (void* handle : inherited) {
    const bool is_known = std::find(inherited_.begin(), inherited_.end(), handle) != inherited_.end();
    if (handle == nullptr || handle == INVALID_HANDLE_VALUE || is_known) continue;
    SetHandleInformation(handle, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);
    inherited_.push_back(handle);
  }
  jobs_ = {job};
  allocate();
  add(PROC_THREAD_ATTRIBUTE_HANDLE_LIST, inherited_);
  add(PROC_THREAD_ATTRIBUTE_JOB_LIST, jobs_);
}

void StartAttributes::allocate() {
  SIZE_T bytes = 0;
  InitializeProcThreadAttributeList(nullptr, kAttributes, 0, &bytes);  // fails, and says how much it needs
  std::vector<std::byte> storage(bytes);
  if (!InitializeProcThreadAttributeList(as_list(storage), kAttributes, 0, &bytes)) throw attribute_error();
  storage_ = std::move(storage);  // the memory stays where it is
}

void StartAttributes::add(std::size_t attribute, std::vector<void*>& values) {
  if (!UpdateProcThreadAttribute(as_list(storage_), 0, attribute, values.data(),
                                 values.size() * sizeof(void*), nullptr, nullptr)) {
    throw attribute_error();
  }
}

StartAttributes::~StartAttributes() {
  if (!storage_.empty()) DeleteProcThreadAttributeList(as_list(storage_));
}

}  // namespace deepscale
