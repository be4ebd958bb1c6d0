// A way to ask a launcher to end its job where signals do not reach it. While one is there, whoever uses it
// sends this process a SIGTERM. One implementation per platform.
//
//   Linux    nothing: SIGTERM reaches every process.
//   Windows  the named event Local\deepscale-stop-<pid>, as long as the object is there. Whoever may open it,
//            which is the same user in the same session, sets it; each time counts as one signal. Console
//            events reach a process only through a console that both share. Where the system refuses the
//            event, the console's ways remain.
//
// Threads: any; on Windows the signal's handler runs on a thread of the object.
#pragma once

#include <memory>

namespace deepscale {

class StopEvent {
 public:
  StopEvent();
  ~StopEvent();
  StopEvent(const StopEvent&) = delete;
  StopEvent& operator=(const StopEvent&) = delete;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace deepscale
