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
  return fmt::format(
      "# backend {}, {} ranks; memcpy by one rank {:.2f} GB/s, by all at once {:.2f} GB/s each\n"
      "#{:>60}{:>37}\n"
      "#{:>15}{:>12}{:>13}{:>7}{:>6}{:>11}{:>9}{:>9}{:>8}{:>11}{:>9}{:>9}{:>8}\n"
      "#{:>15}{:>12}{:>12}{:>8}{:>6}{:>11}{:>9}{:>9}{:>8}{:>11}{:>9}{:>9}{:>8}\n",
      header.backend, header.rank_count, header.copy_bandwidth_alone, header.copy_bandwidth_together,
      "plain memory", "shared memory", "operation", "size", "count", "type", "redop", "time", "algbw",
      "busbw", "#wrong", "time", "algbw", "busbw", "#wrong", "", "(B)", "(elements)", "", "", "(us)",
      "(GB/s)", "(GB/s)", "", "(us)", "(GB/s)", "(GB/s)", "");
}

std::string row_text(const CommBenchRow& row) {
  return fmt::format(" {:>15}{:>12}{:>13}{:>7}{:>6}{}{}\n", bench_operation_name(row.operation), row.bytes,
                     row.count, dtype_name(row.dtype), reduces(row.operation) ? "sum" : "none",
                     half_text(row.plain), half_text(row.shared));
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
  const nlohmann::ordered_json json = {{"op", bench_operation_name(row.operation)},
                                       {"size", row.bytes},
                                       {"count", row.count},
                                       {"type", dtype_name(row.dtype)},
                                       {"redop", reduces(row.operation) ? "sum" : "none"},
                                       {"backend", header.backend},
                                       {"ranks", header.rank_count},
                                       {"plain", half_json(row.plain)},
                                       {"shared", half_json(row.shared)}};
  return json.dump() + "\n";
}

}  // namespace deepscale
