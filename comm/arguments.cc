#include "comm/arguments.h"

#include <fmt/core.h>

#include "comm/base/error.h"

namespace deepscale {

namespace {

[[noreturn]] void refuse(const Communicator& communicator, const char* operation, const std::string& why) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("rank {} of {}: {}: {}", communicator.rank(), communicator.size(), operation, why));
}

void check_same_dtype(const Communicator& communicator, const char* operation, const Buffer& left,
                      const Buffer& right) {
  if (left.dtype == right.dtype) return;
  refuse(communicator, operation,
         fmt::format("the buffers have different dtypes, {} and {}", dtype_name(left.dtype),
                     dtype_name(right.dtype)));
}

void check_same_kind(const Communicator& communicator, const char* operation, const Buffer& left,
                     const Buffer& right) {
  check_same_dtype(communicator, operation, left, right);
  if (left.device != right.device)
    refuse(communicator, operation, "one buffer is in host memory and the other on a device");
}

}  // namespace

void check_world(const char* backend, int rank, int world_size, const Store* store) {
  if (world_size < 1 || rank < 0 || rank >= world_size) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("there is no rank {} in a world of {}", rank, world_size));
  }
  if (world_size > 1 && store == nullptr) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("a communicator of {} ranks over '{}' needs a store, in which they find each other",
                    world_size, backend));
  }
}

void check_buffer(const Communicator& communicator, const char* operation, const Buffer& buffer) {
  if (buffer.count < 0)
    refuse(communicator, operation, fmt::format("the count {} is negative", buffer.count));
  if (buffer.count > 0 && buffer.data == nullptr) {
    refuse(communicator, operation, fmt::format("the buffer of {} elements is a null pointer", buffer.count));
  }
  if (!communicator.supports(buffer.device)) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("rank {} of {}: {}: the backend '{}' takes no {} buffers; copy to host memory first",
                    communicator.rank(), communicator.size(), operation, communicator.backend(),
                    buffer.device == DeviceKind::kCuda ? "CUDA" : "CPU"));
  }
}

void check_whole_and_slice(const Communicator& communicator, const char* operation, const Buffer& whole,
                           const Buffer& slice) {
  check_buffer(communicator, operation, whole);
  check_buffer(communicator, operation, slice);
  check_same_kind(communicator, operation, whole, slice);
  if (whole.count != slice.count * communicator.size()) {
    refuse(communicator, operation,
           fmt::format("{} elements are not {} slices of {}", whole.count, communicator.size(), slice.count));
  }
}

void check_equal_shares(const Communicator& communicator, const char* operation, const Buffer& input,
                        const Buffer& output) {
  check_buffer(communicator, operation, input);
  check_buffer(communicator, operation, output);
  check_same_kind(communicator, operation, input, output);
  if (input.count != output.count || input.count % communicator.size() != 0) {
    refuse(communicator, operation,
           fmt::format("an input of {} and an output of {} elements are not {} equal slices each",
                       input.count, output.count, communicator.size()));
  }
}

void check_root(const Communicator& communicator, const char* operation, int root) {
  if (root >= 0 && root < communicator.size()) return;
  refuse(communicator, operation, fmt::format("there is no rank {}", root));
}

void check_peer(const Communicator& communicator, const char* operation, int peer) {
  check_root(communicator, operation, peer);
  if (peer == communicator.rank()) refuse(communicator, operation, "the peer is this rank itself");
}

}  // namespace deepscale
