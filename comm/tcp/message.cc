#include "comm/tcp/message.h"

#include <fmt/core.h>

namespace deepscale::tcp {

namespace {

const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kAllReduce:
      return "all_reduce";
    case Kind::kReduceScatter:
      return "reduce_scatter";
    case Kind::kAllGather:
      return "all_gather";
    case Kind::kBroadcast:
      return "broadcast";
    case Kind::kAllToAll:
      return "all_to_all";
    case Kind::kPointToPoint:
      return "send/receive";
    case Kind::kBarrier:
      return "barrier";
    case Kind::kFarewell:
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
  if (header.kind == Kind::kBarrier) return text;
  text += fmt::format(" ({}, {} elements", dtype_name(header.dtype), header.count);
  if (header.kind == Kind::kAllReduce || header.kind == Kind::kReduceScatter) {
    text += fmt::format(", {}", reduce_op_name(header.reduce_op));
  }
  if (header.kind == Kind::kBroadcast) text += fmt::format(", root {}", header.root);
  return text + ")";
}

}  // namespace deepscale::tcp
