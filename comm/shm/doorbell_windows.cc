#include <windows.h>

#include <fmt/core.h>

#include "comm/base/error.h"
#include "comm/base/text_encoding_windows.h"
#include "comm/shm/doorbell.h"

namespace deepscale::shm {

struct Doorbell::Event {
  explicit Event(HANDLE value) : handle(value) {}
  ~Event() { CloseHandle(handle); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  const HANDLE handle;
};

Doorbell::Doorbell(Word& word, const std::string& name) : word_(&word) {
  const HANDLE handle = CreateEventW(nullptr, FALSE, FALSE, to_wide("Local\\" + name).c_str());
  if (handle == nullptr) {
    throw Error(ErrorCode::kSystem,
                fmt::format("cannot make the event {}: {}", name, windows_error_text(GetLastError())));
  }
  event_ = std::make_unique<Event>(handle);
}

Doorbell::Doorbell(Doorbell&&) noexcept = default;
Doorbell::~Doorbell() = default;

void Doorbell::ring() {
  word_->rings.fetch_add(1);
  SetEvent(event_->handle);
}

// The event stays set when nobody sleeps, which costs the next sleeper one look for nothing.
void Doorbell::sleep(Clock::duration at_most) {
  if (word_->rings.load() != rings_seen_) return;
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(at_most).count();
  WaitForSingleObject(event_->handle, static_cast<DWORD>(milliseconds));
}

}  // namespace deepscale::shm
