#include "comm/nccl/nccl_api.h"

#include <fmt/core.h>

namespace deepscale::nccl {

namespace {

constexpr int kOldestVersion = 21400;

DynamicLibrary load_nccl(const std::string& library) {
  try {
    return DynamicLibrary::load(library.empty() ? "libnccl.so.2" : library);
  } catch (const Error& error) {
    throw Error(
        error.code(),
        fmt::format("NCCL was not found ({}); install it, or set DEEPSCALE_NCCL_LIBRARY to its libnccl.so.2",
                    error.what()));
  }
}

template <typename Signature>
void find(const DynamicLibrary& library, const char* name, Signature*& function) {
  function = library.function<Signature>(name);
  if (function == nullptr) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("NCCL has no {}: version 2.14 or newer is needed", name));
  }
}

ErrorCode code_of(Result result) {
  switch (result) {
    case kRemoteError:
      return ErrorCode::kPeerLost;
    case kInvalidArgument:
    case kInvalidUsage:
      return ErrorCode::kInvalidArgument;
    case kUnhandledCudaError:
    case kSystemError:
      return ErrorCode::kSystem;
    default:
      return ErrorCode::kInternal;
  }
}

}  // namespace

Api::Api(const std::string& library_name) : library(load_nccl(library_name)) {
  find(library, "ncclGetVersion", get_version);
  find(library, "ncclGetUniqueId", get_unique_id);
  find(library, "ncclCommInitRankConfig", comm_init_rank_config);
  find(library, "ncclCommFinalize", comm_finalize);
  find(library, "ncclCommDestroy", comm_destroy);
  find(library, "ncclCommAbort", comm_abort);
  find(library, "ncclCommGetAsyncError", comm_get_async_error);
  find(library, "ncclGetLastError", get_last_error);
  find(library, "ncclGetErrorString", get_error_string);
  find(library, "ncclAllReduce", all_reduce);
  find(library, "ncclReduceScatter", reduce_scatter);
  find(library, "ncclAllGather", all_gather);
  find(library, "ncclBroadcast", broadcast);
  find(library, "ncclSend", send);
  find(library, "ncclRecv", receive);
  find(library, "ncclGroupStart", group_start);
  find(library, "ncclGroupEnd", group_end);
  get_version(&version);
  if (version < kOldestVersion) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("NCCL is version {}, and 2.14 ({}) or newer is needed", version, kOldestVersion));
  }
}

int dtype_number(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return 7;
    case DType::kBFloat16:
      return 9;
    case DType::kFloat16:
      return 6;
    case DType::kInt32:
      return 2;
    case DType::kInt64:
      return 4;
    case DType::kUInt8:
      return 1;
  }
  throw Error(ErrorCode::kInternal, "nccl: unknown dtype");
}

int reduce_op_number(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return 0;
    case ReduceOp::kMax:
      return 2;
    case ReduceOp::kMin:
      return 3;
    case ReduceOp::kAverage:
      return 4;
  }
  throw Error(ErrorCode::kInternal, "nccl: unknown reduction");
}

Error to_error(const Api& api, Result result, Comm comm) {
  std::string text = fmt::format("NCCL: {}", api.get_error_string(result));
  const char* last = api.get_last_error(comm);
  if (last != nullptr && *last != '\0') text += fmt::format(": {}", last);
  return Error(code_of(result), text);
}

}  // namespace deepscale::nccl
