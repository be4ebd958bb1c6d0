// Which operation a rank is in, as it tells its peers before any payload.
//
// Both ends write it down and compare; so ranks that call different operations, or the same with different
// counts, get an error that names both instead of garbage. It goes over the wire or into shared memory as it
// lies in memory: all ranks of a job have the same byte order, or the rendezvous already refuses them.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "comm/communicator.h"

namespace deepscale {

enum class OperationKind : std::uint8_t {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kBroadcast,
  kAllToAll,
  kPointToPoint,
  kBarrier,
  kFarewell,  // the sender gives up; the payload is `count` bytes of text that say why
};

inline constexpr std::uint32_t kMessageMagic = 0x44534d31;  // "DSM1"

struct MessageHeader {
  std::uint32_t magic = kMessageMagic;
  OperationKind kind = OperationKind::kBarrier;
  DType dtype = DType::kUInt8;
  ReduceOp reduce_op = ReduceOp::kSum;
  std::uint8_t step = 0;     // all_reduce: 0 scatters, 1 gathers
  std::uint64_t number = 0;  // collectives count together; sends count for each pair of ranks and direction
  std::int64_t count = 0;    // elements, as the caller gave them
  std::int64_t root = -1;    // broadcast
  bool operator==(const MessageHeader&) const = default;
};
static_assert(std::is_trivially_copyable_v<MessageHeader>);
static_assert(sizeof(MessageHeader) == 32, "there are no padding bytes");

// "all_reduce #5 (fp32, 100 elements, sum)". Also for a header from outside with values that do not exist.
std::string describe(const MessageHeader& header);
// What to tell the caller when `rank` is in one operation and `peer` in another.
std::string describe_disagreement(int rank, const MessageHeader& own, int peer, const MessageHeader& theirs);

}  // namespace deepscale
