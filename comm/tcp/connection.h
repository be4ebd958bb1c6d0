// One connected byte stream to a peer, asynchronous in both directions at once.
//
// The seam between the protocol (channel.h) and the sockets (mesh.cc). Belongs to the thread that runs the
// io_context it was made on, which also calls the handlers; a handler is never called from within the call
// that takes it.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

namespace deepscale::tcp {

class Connection {
 public:
  // `failure` is empty when `bytes` moved, at least one; else it says why none did ("it closed the
  // connection").
  using Handler = std::function<void(const std::string& failure, std::size_t bytes)>;

  virtual ~Connection() = default;

  // Both move some bytes; write_some those of `first`, then of `second`, of which one may be empty. The
  // memory belongs to the connection until the handler is called. One read and one write at a time.
  virtual void read_some(std::span<std::byte> room, Handler handler) = 0;
  virtual void write_some(std::span<const std::byte> first, std::span<const std::byte> second,
                          Handler handler) = 0;

  // The handlers of a read and a write that are under way are called soon, with a failure.
  virtual void cancel() = 0;
  // The peer will see the end of the stream behind what was written.
  virtual void end_writing() = 0;
  // cancel(), and the end of the connection.
  virtual void close() = 0;
};

}  // namespace deepscale::tcp
