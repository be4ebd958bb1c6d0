// A client's TCP connection to the store, whose every operation has a deadline.
//
// Failures come back as error codes. At the deadline it is std::errc::timed_out; then a receive() of one byte
// may be tried again, and everything else has left the stream in the middle of something. One thread at a
// time; each call blocks until it is done.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "comm/base/clock.h"

namespace deepscale {

class StoreConnection {
 public:
  StoreConnection();
  ~StoreConnection();
  StoreConnection(const StoreConnection&) = delete;
  StoreConnection& operator=(const StoreConnection&) = delete;

  // `host` is a name or a numeric IPv4 or IPv6 address; every address of a name is tried in turn. May be
  // called again. Looking up a name can outlast the deadline by what the system's resolver takes.
  std::error_code connect(const std::string& host, int port, Deadline deadline);
  std::error_code send(std::string_view bytes, Deadline deadline);
  std::error_code receive(char* into, std::size_t size, Deadline deadline);
  void close();

 private:
  struct Io;
  std::unique_ptr<Io> io_;
};

}  // namespace deepscale
