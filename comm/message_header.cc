#include "comm/message_header.h"

#include <fmt/core.h>

namespace deepscale {

namespace {

const char* kind_name(OperationKind kind) {
  switch (kind) {
    case OperationKind::kAllReduce:
      return "all_reduce";
    case OperationKind::kReduceScatter:
      return "reduce_scatter";
    case OperationKind::kAllGather:
      return "all_gather";
    case OperationKind::kBroadcast:
      return "broadcast";
    case OperationKind::kAllToAll:
      return "all_to_all";
    case OperationKind::kPointToPoint:
      return "send/receive";
    case OperationKind::kBarrier:
      return "barrier";
    case OperationKind::kFarewell:
      return "farewell";
  }
  return "an unknown operation";
}

const char* reduce_op_name(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kAverage:
      return "average";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kMin:
      return "min";
  }
  return "an unknown reduction";
}

}  // namespace

std::string describe(const MessageHeader& header) {
  std::string text = fmt::format("{} #{}", kind_name(header.kind), header.number);
  if (header.kind == OperationKind::kBarrier) return text;
  text += fmt::format(" ({}, {} elements", dtype_name(header.dtype), header.count);
  if (header.kind == OperationKind::kAllReduce || header.kind == OperationKind::kReduceScatter) {
    text += fmt::format(", {}", reduce_op_name(header.reduce_op));
  }
  if (header.kind == OperationKind::kBroadcast) text += fmt::format(", root {}", header.root);
  return text + ")";
}

std::string describe_disagreement(int rank, const MessageHeader& own, int peer, const MessageHeader& theirs) {
  return fmt::format(
      "rank {} is in {}, but rank {} is in {}; all ranks have to call the same operations in the same order "
      "with the same counts and dtypes",
      rank, describe(own), peer, describe(theirs));
}

}  // namespace deepscale
