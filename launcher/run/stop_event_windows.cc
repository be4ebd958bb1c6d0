#include "launcher/run/stop_event.h"

#include <windows.h>

#include <fmt/core.h>

#include <csignal>
#include <thread>

#include "comm/base/text_encoding_windows.h"

namespace deepscale {
namespace {

HANDLE open_stop_event() {
  const std::string name = fmt::format("Local\\deepscale-stop-{}", GetCurrentProcessId());
  return CreateEventW(nullptr, FALSE, FALSE, to_wide(name).c_str());
}

}  // namespace

struct StopEvent::Implementation {
  ~Implementation() {
    SetEvent(end);
    if (thread.joinable()) thread.join();
    CloseHandle(end);
    if (event != nullptr) CloseHandle(event);
  }

  void wait() const {
    const HANDLE handles[] = {end, event};
    while (WaitForMultipleObjects(2, handles, FALSE, INFINITE) == WAIT_OBJECT_0 + 1) std::raise(SIGTERM);
  }

  const HANDLE event = open_stop_event();
  const HANDLE end = CreateEventW(nullptr, TRUE, FALSE, nullptr);
  std::thread thread;
};

StopEvent::StopEvent() : implementation_(std::make_unique<Implementation>()) {
  if (implementation_->event == nullptr || implementation_->end == nullptr) return;
  implementation_->thread = std::thread([implementation = implementation_.get()] { implementation->wait(); });
}
StopEvent::~StopEvent() = default;

}  // namespace deepscale
