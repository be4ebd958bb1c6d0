// The functions of NCCL that the backend calls, from a library that is loaded at run time: so this builds
// without NCCL's header. The declarations follow nccl.h (docs.nvidia.com/deeplearning/nccl), whose binary
// interface has been stable since 2.14, the oldest version that works here.
//
// The functions return a Result. All communicators here are non-blocking ones: a call that returns
// kInProgress goes on in the background, and comm_get_async_error() tells how it ended.
#pragma once

#include <array>
#include <string>

#include "comm/base/dtype.h"
#include "comm/base/dynamic_library.h"
#include "comm/base/error.h"
#include "comm/communicator.h"

namespace deepscale::nccl {

using Comm = void*;    // ncclComm_t
using Stream = void*;  // cudaStream_t

enum Result : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

struct UniqueId {
  std::array<char, 128> bytes{};
};

// ncclConfig_t as 2.14 had it. Newer versions take it, and their defaults for what it lacks.
struct Config {
  std::size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;
};

struct Api {
  // An empty `library` is libnccl.so.2: the one that this process has already (LibTorch's), else the
  // system's. Error(kNotFound) where there is none, kUnsupported where it is too old.
  explicit Api(const std::string& library);

  DynamicLibrary library;
  int version = 0;  // 22809 is 2.28.9
  Result (*get_version)(int* version);
  Result (*get_unique_id)(UniqueId* id);
  Result (*comm_init_rank_config)(Comm* comm, int size, UniqueId id, int rank, Config* config);
  Result (*comm_finalize)(Comm comm);
  Result (*comm_destroy)(Comm comm);
  Result (*comm_abort)(Comm comm);
  Result (*comm_get_async_error)(Comm comm, Result* error);
  const char* (*get_last_error)(Comm comm);
  const char* (*get_error_string)(Result result);
  Result (*all_reduce)(const void* input, void* output, std::size_t count, int dtype, int op, Comm, Stream);
  Result (*reduce_scatter)(const void* input, void* output, std::size_t output_count, int dtype, int op, Comm,
                           Stream);
  Result (*all_gather)(const void* input, void* output, std::size_t input_count, int dtype, Comm, Stream);
  Result (*broadcast)(const void* input, void* output, std::size_t count, int dtype, int root, Comm, Stream);
  Result (*send)(const void* data, std::size_t count, int dtype, int peer, Comm, Stream);
  Result (*receive)(void* data, std::size_t count, int dtype, int peer, Comm, Stream);
  Result (*group_start)();
  Result (*group_end)();
};

// nccl.h's numbers.
int dtype_number(DType dtype);
int reduce_op_number(ReduceOp op);

// What a failed call means for the caller, with NCCL's own words. `comm` may be null.
Error to_error(const Api& api, Result result, Comm comm);

}  // namespace deepscale::nccl
