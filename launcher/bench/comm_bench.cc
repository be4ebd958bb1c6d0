#include "launcher/bench/comm_bench.h"

#include <cstdio>
#include <utility>

#include "comm/communicator.h"
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

std::unique_ptr<Communicator> join(const WorldLayout& layout, const CommBenchSpec& spec,
                                   const Environment& environment) {
  const Logger logger("bench", LogLevel::kWarning);
  std::shared_ptr<Store> store;
  if (layout.world_size > 1) store = join_job_store(layout, logger, Deadline::after(kTimeout));
  const std::string backend =
      spec.backend.empty() ? environment.get_or("DEEPSCALE_BACKEND", "") : spec.backend;
  return make_communicator(layout, store, {.timeout = kTimeout, .backend = backend, .logger = logger});
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
    wrong_ += row.plain.wrong + row.shared.wrong;
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

int measure_as_rank(const CommBenchSpec& spec, Communicator& communicator) {
  const int size = communicator.size();
  const auto half = static_cast<std::size_t>(even_bytes(spec.max_bytes, size, spec.dtype) + 4096);
  std::vector<std::byte> plain(2 * half);
  const auto shared = communicator.allocate_shared(2 * half);
  CommBench bench(communicator, spec);
  Report report(communicator, spec.json);
  report.begin({communicator.backend(), size, bench.copy_bandwidth(1), bench.copy_bandwidth(size)});
  for (const BenchOperation operation : spec.operations) {
    for (const std::int64_t bytes : sizes_of(spec, operation, size)) {
      CommBenchRow row{.operation = operation, .bytes = bytes, .dtype = spec.dtype};
      row.count = bytes / static_cast<std::int64_t>(size_of(spec.dtype));
      row.plain = bench.measure(operation, bytes, {plain.data(), half});
      row.shared = bench.measure(operation, bytes, {shared.get(), half});
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
  if (layout.started_by == StartedBy::kNobody) return start_ranks(spec, words);
  return measure_as_rank(spec, *join(layout, spec, environment));
}

}  // namespace deepscale
