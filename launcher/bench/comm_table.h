// How `deepscale bench comm` shows what it measured: the table of nccl-tests, or a JSON object per line.
//
// The two halves of a row are nccl-tests' "out-of-place" and "in-place" with another meaning: buffers that
// the program allocated itself, and buffers from Communicator::allocate_shared(). CUDA buffers have one half.
// Pure functions that return whole lines.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/bench/comm_measurement.h"

namespace deepscale {

struct CommBenchHeader {
  std::string backend;
  int rank_count = 1;
  double copy_bandwidth_alone = 0;     // GB/s of memcpy by one rank
  double copy_bandwidth_together = 0;  // of each when all copy at once
  DeviceKind device = DeviceKind::kCpu;
};

struct CommBenchRow {
  BenchOperation operation = BenchOperation::kBarrier;
  std::int64_t bytes = 0;
  std::int64_t count = 0;
  DType dtype = DType::kFloat32;
  CommMeasurement plain;  // or in memory of the GPU
  std::optional<CommMeasurement> shared;
};

std::string header_text(const CommBenchHeader& header);
std::string row_text(const CommBenchRow& row);
std::string header_json(const CommBenchHeader& header);
std::string row_json(const CommBenchRow& row, const CommBenchHeader& header);

}  // namespace deepscale
