#include "launcher/run/standard_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

namespace deepscale {

namespace {

// A terminal that was closed gives EIO, as a broken disk does.
bool is_reader_gone(int descriptor, int error) {
  struct stat about = {};
  const bool was_terminal = error == EIO && fstat(descriptor, &about) == 0 && S_ISCHR(about.st_mode);
  return error == EPIPE || error == ECONNRESET || was_terminal;
}

}  // namespace

std::error_code write_standard_stream(StandardStream stream, std::string_view text) {
  const int descriptor = stream == StandardStream::kOut ? STDOUT_FILENO : STDERR_FILENO;
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {  // whoever gave us the stream made it non-blocking
      pollfd ready{descriptor, POLLOUT, 0};
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      return is_reader_gone(descriptor, errno) ? std::make_error_code(std::errc::broken_pipe)
                                               : std::error_code(errno, std::generic_category());
    }
  }
  return {};
}

void shield_thread_from_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

void reserve_standard_streams() {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (fcntl(descriptor, F_GETFD) < 0) open("/dev/null", O_RDWR);  // takes the lowest free number
  }
}

}  // namespace deepscale
