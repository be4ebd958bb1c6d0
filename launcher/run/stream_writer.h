// One of our own standard streams, written in the background, so that a pager or a slow terminal cannot stop
// the launcher from hearing signals and deadlines.
//
// Text is written in the order in which it was appended. The thread that writes starts with the first text.
// When nobody reads the other end any more, text is dropped from then on: a closed terminal is no reason to
// end a job. After any other error the next text is tried again.
//
// Threads: one owner calls all methods; on_idle is called on the writer's thread. Destruction does not wait:
// a writer that is stuck in a write is left behind and ends with the process, so write everything out first
// (call_when_idle) where it matters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <system_error>

namespace deepscale {

enum class StandardStream { kOut, kErr };

class StreamWriter {
 public:
  static constexpr std::size_t kLimitBytes = 1 << 20;

  StreamWriter(StandardStream stream, std::function<void()> on_idle);
  ~StreamWriter();
  StreamWriter(const StreamWriter&) = delete;
  StreamWriter& operator=(const StreamWriter&) = delete;

  // Never blocks. False when more than kLimitBytes wait now: append no more until on_idle, which is called
  // once then.
  bool append(std::string_view text);
  bool is_full() const;
  // Everything appended so far has been written or dropped, and take_error() has nothing to tell.
  bool is_idle() const;
  // Why text was lost while somebody could have read it, once: a full disk. on_idle is called for it.
  std::error_code take_error();
  bool has_lost_text() const;
  // How much was written so far: whether somebody still reads.
  std::uint64_t written_bytes() const;
  // Asks for one call of on_idle, which comes at once when nothing waits.
  void call_when_idle();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace deepscale
