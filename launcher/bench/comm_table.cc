#include "launcher/bench/comm_table.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

namespace deepscale {

namespace {

bool reduces(BenchOperation operation) {
  return operation == BenchOperation::kAllReduce || operation == BenchOperation::kReduceScatter;
}

std::string half_text(const CommMeasurement& measured) {
  return fmt::format("{:>11.2f}{:>9.2f}{:>9.2f}{:>8}", measured.microseconds, measured.algorithm_bandwidth,
                     measured.bus_bandwidth, measured.wrong);
}

nlohmann::ordered_json half_json(const CommMeasurement& measured) {
  return {{"time_us", measured.microseconds},
          {"algbw_gb_per_s", measured.algorithm_bandwidth},
          {"busbw_gb_per_s", measured.bus_bandwidth},
          {"wrong", measured.wrong}};
}

}  // namespace

const char* bench_operation_name(BenchOperation operation) {
  switch (operation) {
    case BenchOperation::kAllReduce:
      return "all_reduce";
    case BenchOperation::kReduceScatter:
      return "reduce_scatter";
    case BenchOperation::kAllGather:
      return "all_gather";
    case BenchOperation::kBroadcast:
      return "broadcast";
    case BenchOperation::kAllToAll:
      return "all_to_all";
    case BenchOperation::kSendReceive:
      return "send_receive";
    case BenchOperation::kBarrier:
      break;
  }
  return "barrier";
}

std::string header_text(const CommBenchHeader& header) {
  const bool on_device = header.device == DeviceKind::kCuda;
  const auto line = [&](const std::string& front, const std::string& half) {
    return fmt::format("#{}{}{}\n", front, half, on_device ? "" : half);
  };
  return fmt::format("# backend {}, {} ranks; {} by one rank {:.2f} GB/s, by all at once {:.2f} GB/s each\n",
                     header.backend, header.rank_count, on_device ? "copies on the GPU" : "memcpy",
                     header.copy_bandwidth_alone, header.copy_bandwidth_together) +
         (on_device ? fmt::format("#{:>62}\n", "memory of the GPU")
                    : fmt::format("#{:>60}{:>37}\n", "plain memory", "shared memory")) +
         line(fmt::format("{:>15}{:>12}{:>13}{:>7}{:>6}", "operation", "size", "count", "type", "redop"),
              fmt::format("{:>11}{:>9}{:>9}{:>8}", "time", "algbw", "busbw", "#wrong")) +
         line(fmt::format("{:>15}{:>12}{:>12}{:>8}{:>6}", "", "(B)", "(elements)", "", ""),
              fmt::format("{:>11}{:>9}{:>9}{:>8}", "(us)", "(GB/s)", "(GB/s)", ""));
}

std::string row_text(const CommBenchRow& row) {
  return fmt::format(" {:>15}{:>12}{:>13}{:>7}{:>6}{}{}\n", bench_operation_name(row.operation), row.bytes,
                     row.count, dtype_name(row.dtype), reduces(row.operation) ? "sum" : "none",
                     half_text(row.plain), row.shared ? half_text(*row.shared) : "");
}

std::string header_json(const CommBenchHeader& header) {
  const nlohmann::ordered_json json = {{"bench", "comm"},
                                       {"backend", header.backend},
                                       {"ranks", header.rank_count},
                                       {"memcpy_alone_gb_per_s", header.copy_bandwidth_alone},
                                       {"memcpy_together_gb_per_s", header.copy_bandwidth_together}};
  return json.dump() + "\n";
}

std::string row_json(const CommBenchRow& row, const CommBenchHeader& header) {
  nlohmann::ordered_json json = {{"op", bench_operation_name(row.operation)},
                                 {"size", row.bytes},
                                 {"count", row.count},
                                 {"type", dtype_name(row.dtype)},
                                 {"redop", reduces(row.operation) ? "sum" : "none"},
                                 {"backend", header.backend},
                                 {"ranks", header.rank_count}};
  json[header.device == DeviceKind::kCuda ? "cuda" : "plain"] = half_json(row.plain);
  if (row.shared) json["shared"] = half_json(*row.shared);
  return json.dump() + "\n";
}

}  // namespace deepscale
