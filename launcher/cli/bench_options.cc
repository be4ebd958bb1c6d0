#include "launcher/cli/bench_options.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "comm/base/error.h"
#include "comm/base/suggest.h"

namespace deepscale {

namespace {

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

constexpr std::int64_t kMostBytes = std::int64_t{1} << 40;

// "8", "64K", "64M", "2G", with or without "iB" or "B".
std::int64_t parse_bytes(const std::string& text) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, value);
  const std::string unit(rest, end);
  int shift = -1;
  for (const auto& [names, bits] :
       {std::pair{"|B", 0}, {"|K|KB|KiB", 10}, {"|M|MB|MiB", 20}, {"|G|GB|GiB", 30}}) {
    if ((std::string(names) + "|").find("|" + unit + "|") != std::string::npos) shift = bits;
  }
  if (unit.empty()) shift = 0;
  if (failure != std::errc() || shift < 0 || value < 1 || value > kMostBytes >> shift) {
    fail(fmt::format("\"{}\" is not a size; write bytes, or a number with K, M or G", text));
  }
  return value << shift;
}

int parse_count(const std::string& text, int least, int most) {
  int value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc() || rest != end || value < least || value > most) {
    fail(fmt::format("\"{}\" is not a whole number from {} to {}", text, least, most));
  }
  return value;
}

constexpr BenchOperation kOperations[] = {BenchOperation::kAllReduce, BenchOperation::kReduceScatter,
                                          BenchOperation::kAllGather, BenchOperation::kBroadcast,
                                          BenchOperation::kAllToAll,  BenchOperation::kSendReceive,
                                          BenchOperation::kBarrier};

std::vector<BenchOperation> parse_operations(const std::string& text) {
  if (text == "all") return {std::begin(kOperations), std::end(kOperations)};
  std::vector<std::string> names;
  for (const BenchOperation operation : kOperations) names.push_back(bench_operation_name(operation));
  std::vector<BenchOperation> operations;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      const auto nearest = suggest(name, names);
      fail(fmt::format("there is no operation \"{}\"{}", name,
                       nearest ? fmt::format("; did you mean {}?", *nearest) : ""));
    }
    operations.push_back(kOperations[found - names.begin()]);
    begin = end + 1;
  }
  return operations;
}

struct BenchOption {
  const char* name;
  const char* value_name;  // nullptr: a switch
  const char* help;
  void (*apply)(CommBenchSpec& spec, const std::string& value);
};

using Spec = CommBenchSpec;
using Text = const std::string&;

const std::vector<BenchOption>& bench_options() {
  static const std::vector<BenchOption> options = {
      {"num_gpus", "N", "ranks to start on this machine (default: 2); no meaning when started as a rank",
       [](Spec& spec, Text value) { spec.rank_count = parse_count(value, 1, 4096); }},
      {"backend", "NAME",
       "shm, tcp ...; nccl is for buffers on GPUs (default: DEEPSCALE_BACKEND, else as a job chooses)",
       [](Spec& spec, Text value) { spec.backend = value; }},
      {"op", "NAMES", "with commas: all_reduce, reduce_scatter, all_gather (default), broadcast, all_to_all,",
       [](Spec& spec, Text value) { spec.operations = parse_operations(value); }},
      {"dtype", "NAME", "fp32 (default), bf16, fp16, int32, int64 or uint8",
       [](Spec& spec, Text value) { spec.dtype = parse_dtype(value); }},
      {"min_bytes", "SIZE", "the smallest whole tensor (default: 8)",
       [](Spec& spec, Text value) { spec.min_bytes = parse_bytes(value); }},
      {"max_bytes", "SIZE", "the largest one (default: 64M)",
       [](Spec& spec, Text value) { spec.max_bytes = parse_bytes(value); }},
      {"factor", "N", "from one size to the next (default: 2)",
       [](Spec& spec, Text value) { spec.factor = parse_count(value, 2, 1 << 20); }},
      {"iterations", "N", "rounds of each measurement (default: by size)",
       [](Spec& spec, Text value) { spec.iterations = parse_count(value, 1, 1 << 24); }},
      {"json", nullptr, "a JSON object per line instead of the table",
       [](Spec& spec, Text) { spec.json = true; }},
  };
  return options;
}

const BenchOption& find_option(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  if (name == "np" || name == "nproc_per_node") name = "num_gpus";
  std::vector<std::string> names;
  for (const BenchOption& option : bench_options()) {
    if (name == option.name) return option;
    names.push_back(option.name);
  }
  const auto nearest = suggest(name, names);
  fail(fmt::format("deepscale bench comm does not know --{}; {}", name,
                   nearest ? fmt::format("did you mean --{}?", *nearest) : "see deepscale bench --help."));
}

}  // namespace

CommBenchSpec parse_comm_bench(const std::vector<std::string>& words) {
  CommBenchSpec spec;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const std::size_t dashes = word.find_first_not_of('-');
    if (dashes == 0 || dashes == std::string::npos) {
      fail(fmt::format(
          "deepscale bench comm takes only options, and \"{}\" is none; see deepscale bench --help.", word));
    }
    const std::size_t equals = std::min(word.find('='), word.size());
    const BenchOption& option = find_option(word.substr(dashes, equals - dashes));
    std::string value = word.substr(std::min(equals + 1, word.size()));
    if (option.value_name != nullptr && equals == word.size()) {
      if (i + 1 == words.size()) fail(fmt::format("--{} needs a value.", option.name));
      value = words[++i];
    }
    try {
      option.apply(spec, value);
    } catch (const Error& error) {
      fail(fmt::format("--{}: {}.", option.name, error.what()));
    }
  }
  if (spec.max_bytes < spec.min_bytes) fail("--max_bytes is less than --min_bytes.");
  return spec;
}

std::string bench_help() {
  std::string text =
      "Usage: deepscale bench comm [options]\n\n"
      "Measures the collectives between the ranks of a job and checks what they yield. By itself it starts "
      "the "
      "ranks;\nstarted as a rank (deepscale launch, mpirun, torchrun, srun) it measures with the others.\n\n";
  for (const BenchOption& option : bench_options()) {
    const std::string value = option.value_name != nullptr ? fmt::format(" {}", option.value_name) : "";
    text += fmt::format("  {:<20} {}\n", "--" + std::string(option.name) + value, option.help);
    if (option.name == std::string("op")) text += fmt::format("  {:<20} send_receive, barrier, or all\n", "");
  }
  return text +
         "\ntime is the median, algbw the bytes of the whole tensor by it, busbw what each rank's link "
         "carries "
         "at least\n(nccl-tests' factors). Plain memory is the program's own, shared that of "
         "Communicator::allocate_shared(). With nccl there are buffers on the GPUs instead, and one GPU for "
         "each rank.\n"
         "Exit code: 1 when a result was wrong.\n\n"
         "Example:\n"
         "  deepscale bench comm --num_gpus 2 --backend shm --op all_reduce --min_bytes 8 --max_bytes 64M\n";
}

}  // namespace deepscale
