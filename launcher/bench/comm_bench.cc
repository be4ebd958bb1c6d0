#include "launcher/bench/comm_bench.h"

#include <fmt/core.h>

#include <cstdio>
#include <optional>
#include <utility>

#include "comm/base/error.h"
#include "comm/nccl/nccl_communicator.h"
#include "comm/nccl/rank_device.h"
#include "launcher/bench/comm_measurement.h"
#include "launcher/bench/comm_table.h"
#include "launcher/job/program_search.h"
#include "launcher/run/launch.h"

namespace deepscale {

namespace {

constexpr auto kTimeout = std::chrono::minutes(5);

int start_ranks(const CommBenchSpec& spec, const std::vector<std::string>& words) {
  JobSpec job;
  job.program = own_folder() + "/deepscale";
  job.arguments = {"bench", "comm"};
  job.arguments.insert(job.arguments.end(), words.begin(), words.end());
  job.ranks_per_node = spec.rank_count;
  job.oversubscribe = true;
  job.tag_output = false;
  job.quiet = true;
  return launch(job);
}

std::string backend_of(const CommBenchSpec& spec, const Environment& environment) {
  return spec.backend.empty() ? environment.get_or("DEEPSCALE_BACKEND", "") : spec.backend;
}

std::string nccl_library(const Environment& environment) {
  return environment.get_or("DEEPSCALE_NCCL_LIBRARY", "");
}

// Before every rank says the same.
void refuse_without_gpu(const Environment& environment) {
  const nccl::RankDevice device = nccl::open_rank_device(0, nccl_library(environment), "");
  if (device.obstacle.empty()) return;
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("the backend nccl is for buffers on GPUs, and {}; leave it out to measure those of the CPU",
                  device.obstacle));
}

std::shared_ptr<Communicator> join(const WorldLayout& layout, const CommBenchSpec& spec,
                                   const Environment& environment) {
  const Logger logger("bench", LogLevel::kWarning);
  std::shared_ptr<Store> store;
  if (layout.world_size > 1) store = join_job_store(layout, logger, Deadline::after(kTimeout));
  const CommunicatorOptions options{
      .timeout = kTimeout, .backend = backend_of(spec, environment), .logger = logger};
  if (options.backend != "nccl") return make_communicator(layout, store, options);
  return make_device_communicator(layout, store, options,
                                  {.device = layout.local_rank, .nccl_library = nccl_library(environment)});
}

// Rank 0 prints; every rank knows whether something was wrong.
class Report {
 public:
  Report(const Communicator& communicator, bool json) : prints_(communicator.rank() == 0), json_(json) {}

  void begin(CommBenchHeader header) {
    header_ = std::move(header);
    print(json_ ? header_json(header_) : header_text(header_));
  }
  void add(const CommBenchRow& row) {
    wrong_ += row.plain.wrong + (row.shared ? row.shared->wrong : 0);
    print(json_ ? row_json(row, header_) : row_text(row));
  }
  std::int64_t wrong() const { return wrong_; }

 private:
  void print(const std::string& text) {
    if (!prints_) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  const bool prints_;
  const bool json_;
  CommBenchHeader header_;
  std::int64_t wrong_ = 0;
};

std::vector<std::int64_t> sizes_of(const CommBenchSpec& spec, BenchOperation operation, int rank_count) {
  if (operation == BenchOperation::kBarrier) return {0};
  std::vector<std::int64_t> sizes;
  for (std::int64_t bytes = spec.min_bytes; bytes <= spec.max_bytes; bytes *= spec.factor) {
    const std::int64_t even = even_bytes(bytes, rank_count, spec.dtype);
    if (sizes.empty() || sizes.back() != even) sizes.push_back(even);
  }
  return sizes;
}

// Measures in memory of the GPU where there is a `device`.
int measure_as_rank(const CommBenchSpec& spec, Communicator& communicator,
                    const std::shared_ptr<const cuda::Device>& device) {
  const int size = communicator.size();
  const auto half = static_cast<std::size_t>(even_bytes(spec.max_bytes, size, spec.dtype) + 4096);
  const BenchMemory plain = device ? device_memory(device, half) : plain_memory(half);
  std::optional<BenchMemory> shared;
  if (!device) shared = shared_memory(communicator, half);
  CommBench bench(communicator, spec);
  Report report(communicator, spec.json);
  report.begin({communicator.backend(), size, bench.copy_bandwidth(1, plain),
                bench.copy_bandwidth(size, plain), plain.device});
  for (const BenchOperation operation : spec.operations) {
    for (const std::int64_t bytes : sizes_of(spec, operation, size)) {
      CommBenchRow row{.operation = operation, .bytes = bytes, .dtype = spec.dtype};
      row.count = bytes / static_cast<std::int64_t>(size_of(spec.dtype));
      row.plain = bench.measure(operation, bytes, plain);
      if (shared) row.shared = bench.measure(operation, bytes, *shared);
      report.add(row);
    }
  }
  communicator.barrier().wait();
  return report.wrong() == 0 ? 0 : 1;
}

}  // namespace

int bench_comm(const CommBenchSpec& spec, const std::vector<std::string>& words) {
  const Environment environment = Environment::of_process();
  const WorldLayout layout = WorldLayout::from_environment(environment);
  const bool on_gpus = backend_of(spec, environment) == "nccl";
  if (layout.started_by == StartedBy::kNobody) {
    if (on_gpus) refuse_without_gpu(environment);
    return start_ranks(spec, words);
  }
  const std::shared_ptr<Communicator> communicator = join(layout, spec, environment);
  std::shared_ptr<const cuda::Device> device;
  if (on_gpus) device = std::make_shared<cuda::Device>("", layout.local_rank);
  return measure_as_rank(spec, *communicator, device);
}

}  // namespace deepscale
