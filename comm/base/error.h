// The one exception type of DeepScale.
//
// An Error carries a code, for programs, and a message, for people: what failed, where (host, rank, file, key
// path), why (the system's own text) and what to try. Threads and callbacks hand errors to their owner;
// destructors do not throw.
#pragma once

#include <stdexcept>
#include <string>

namespace deepscale {

enum class ErrorCode {
  kInvalidArgument,  // the caller's or the user's input is wrong; nothing was done
  kNotFound,         // a file, program, key or device does not exist
  kTimeout,          // a deadline passed
  kAborted,          // abort() or a stop request ended the operation
  kPeerLost,         // another rank or the store closed its connection
  kProtocol,         // outside bytes that do not follow their format
  kUnsupported,      // this build, platform or backend cannot do it
  kSystem,           // the operating system refused; the message holds its text
  kInternal,         // a defect of DeepScale
};

// "timeout", "peer lost", ...
const char* error_code_name(ErrorCode code);

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace deepscale
