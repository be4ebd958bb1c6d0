// `deepscale bench comm` without ranks: its options, and how it shows what it measured.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "launcher/bench/comm_table.h"
#include "launcher/cli/bench_options.h"
#include "launcher/cli/command_line.h"
#include "tests/launcher/expect_error.h"

namespace deepscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string complaint(const std::vector<std::string>& words) {
  return message_of([&] { parse_comm_bench(words); }, ErrorCode::kInvalidArgument);
}

TEST(CommBenchOptions, AreReadInEverySpelling) {
  const CommBenchSpec spec = parse_comm_bench(
      {"--num_gpus", "4", "--backend=tcp", "--op", "all_reduce,barrier", "--min-bytes=8", "--max_bytes",
       "64M", "--factor", "4", "--iterations", "3", "--dtype", "bf16", "--json"});
  EXPECT_EQ(spec.rank_count, 4);
  EXPECT_EQ(spec.backend, "tcp");
  EXPECT_THAT(spec.operations, ElementsAre(BenchOperation::kAllReduce, BenchOperation::kBarrier));
  EXPECT_EQ(spec.min_bytes, 8);
  EXPECT_EQ(spec.max_bytes, 64 << 20);
  EXPECT_EQ(spec.factor, 4);
  EXPECT_EQ(spec.iterations, 3);
  EXPECT_EQ(spec.dtype, DType::kBFloat16);
  EXPECT_TRUE(spec.json);
  EXPECT_EQ(parse_comm_bench({"--op", "all"}).operations.size(), 7u);
  EXPECT_EQ(parse_comm_bench({"--max_bytes", "2GiB"}).max_bytes, std::int64_t{2} << 30);
}

TEST(CommBenchOptions, AMistakeIsNamedWithWhatWouldBeRight) {
  EXPECT_THAT(complaint({"--opp", "all"}), HasSubstr("did you mean --op?"));
  EXPECT_THAT(complaint({"--op", "all_reduc"}), HasSubstr("did you mean all_reduce?"));
  EXPECT_THAT(complaint({"--op"}), HasSubstr("--op needs a value"));
  EXPECT_THAT(complaint({"8"}), HasSubstr("\"8\" is none"));
  EXPECT_THAT(complaint({"--min_bytes", "8 apples"}), HasSubstr("--min_bytes: \"8 apples\" is not a size"));
  EXPECT_THAT(complaint({"--min_bytes", "1M", "--max_bytes", "1K"}), HasSubstr("less than --min_bytes"));
  EXPECT_THAT(complaint({"--factor", "1"}), HasSubstr("from 2 to"));
}

TEST(CommBenchOptions, TheCommandLineKnowsThem) {
  const Command command = parse_command_line({"bench", "comm", "--factor", "8"});
  EXPECT_EQ(command.action, Command::Action::kBench);
  EXPECT_EQ(command.bench.factor, 8);
  EXPECT_THAT(command.bench_words, ElementsAre("--factor", "8"));
  EXPECT_EQ(parse_command_line({"bench", "--help"}).action, Command::Action::kBenchHelp);
  EXPECT_THAT(message_of(
                  [] {
                    parse_command_line({"bench", "disk"});
                  },
                  ErrorCode::kInvalidArgument),
              HasSubstr("deepscale bench comm"));
  EXPECT_THAT(bench_help(), HasSubstr("--max_bytes SIZE"));
}

TEST(CommBenchTable, SizesAreSharedEvenly) {
  EXPECT_EQ(even_bytes(8, 2, DType::kFloat32), 8);
  EXPECT_EQ(even_bytes(8, 3, DType::kFloat32), 12) << "one element for each rank at least";
  EXPECT_EQ(even_bytes(1 << 20, 3, DType::kBFloat16), 1'048'572);
}

TEST(CommBenchTable, ShowsEveryNumberInTextAndJson) {
  const CommBenchHeader header{"shm", 2, 11.5, 9.25};
  const CommBenchRow row{
      .operation = BenchOperation::kAllReduce,
      .bytes = 4096,
      .count = 1024,
      .dtype = DType::kFloat32,
      .plain = {.microseconds = 2.0, .algorithm_bandwidth = 2.05, .bus_bandwidth = 2.05},
      .shared =
          CommMeasurement{.microseconds = 1.0, .algorithm_bandwidth = 4.1, .bus_bandwidth = 4.1, .wrong = 7}};
  EXPECT_THAT(header_text(header), HasSubstr("# backend shm, 2 ranks; memcpy by one rank 11.50 GB/s"));
  std::istringstream words(row_text(row));
  std::vector<std::string> read{std::istream_iterator<std::string>(words), {}};
  EXPECT_THAT(read, ElementsAre("all_reduce", "4096", "1024", "fp32", "sum", "2.00", "2.05", "2.05", "0",
                                "1.00", "4.10", "4.10", "7"));
  const auto json = nlohmann::json::parse(row_json(row, header));
  EXPECT_EQ(json["op"], "all_reduce");
  EXPECT_EQ(json["size"], 4096);
  EXPECT_EQ(json["backend"], "shm");
  EXPECT_EQ(json["plain"]["time_us"], 2.0);
  EXPECT_EQ(json["shared"]["wrong"], 7);
  EXPECT_EQ(nlohmann::json::parse(header_json(header))["ranks"], 2);
}

TEST(CommBenchTable, HasOneHalfForGpus) {
  const CommBenchHeader header{"nccl", 2, 1500, 1400, DeviceKind::kCuda};
  const CommBenchRow row{.operation = BenchOperation::kAllReduce, .plain = {.microseconds = 2.0}};
  EXPECT_THAT(header_text(header), HasSubstr("copies on the GPU by one rank 1500.00 GB/s"));
  EXPECT_THAT(header_text(header), HasSubstr("memory of the GPU"));
  EXPECT_THAT(header_text(header), ::testing::Not(HasSubstr("shared")));
  const auto json = nlohmann::json::parse(row_json(row, header));
  EXPECT_EQ(json["cuda"]["time_us"], 2.0);
  EXPECT_FALSE(json.contains("shared"));
}

// A communicator that gets everything wrong: nothing arrives.
class Deaf final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 2; }
  const char* backend() const override { return "deaf"; }
  bool supports(DeviceKind) const override { return true; }
  Work all_reduce(Buffer, ReduceOp) override { return {}; }
  Work reduce_scatter(Buffer, Buffer, ReduceOp) override { return {}; }
  Work all_gather(Buffer, Buffer) override { return {}; }
  Work broadcast(Buffer, int) override { return {}; }
  Work all_to_all(Buffer, Buffer) override { return {}; }
  Work send(Buffer, int) override { return {}; }
  Work receive(Buffer, int) override { return {}; }
  Work barrier() override { return {}; }
  void abort(const std::string&) override {}
};

TEST(CommBench, CountsWhatIsWrong) {
  Deaf deaf;
  CommBenchSpec spec;
  spec.iterations = 1;
  CommBench bench(deaf, spec);
  const BenchMemory memory = plain_memory(4096);
  for (const BenchOperation operation :
       {BenchOperation::kAllReduce, BenchOperation::kReduceScatter, BenchOperation::kAllGather,
        BenchOperation::kAllToAll, BenchOperation::kSendReceive}) {
    EXPECT_GT(bench.measure(operation, 4096, memory).wrong, 100) << bench_operation_name(operation);
  }
}

}  // namespace
}  // namespace deepscale::testing
