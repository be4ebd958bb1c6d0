// linear_bench [--rows N] [--columns K] [--count M] [--threads T] [--rounds R] [--cpu_time]: GB/s of
// weights and GFLOP/s of the inference products, in every format and for M activations, beside a plain sum
// over the same bytes, which is what memory allows. Both in turns over the same weights; medians, and the
// median of the ratios of neighbouring turns.
#include <fmt/core.h>

#include <numeric>
#include <vector>

#include "runtime/inference/linear_kernel.h"
#include "tests/bench/bench_tools.h"

namespace deepscale {
namespace {

struct Options {
  std::int64_t rows = 64 * 1024;
  std::int64_t columns = 2048;
  std::int64_t count = 8;
  int rounds = 9;
  bench::Sharing sharing;
};

struct Case {
  const char* name;
  WeightFormat format;
};

void measure(const Options& options, const Case& test) {
  constexpr std::int64_t kGroup = 64;
  const std::int64_t bytes = row_bytes(test.format, options.columns), words = bytes / 8;
  // A word of any format: small normal numbers, or levels.
  const std::vector<std::uint64_t> data(static_cast<std::size_t>(options.rows * words), 0x3c003c013c023c03);
  const std::vector<BandScales> scales(
      is_quantized(test.format) ? static_cast<std::size_t>(bands_of(options.rows) * options.columns / kGroup)
                                : 0);
  const std::vector<float> input(static_cast<std::size_t>(options.count * options.columns), 0.01f);
  std::vector<float> output(static_cast<std::size_t>(options.count * options.rows));
  LinearProduct product{input.data(), options.count,
                        WeightMatrix{test.format, options.rows, options.columns,
                                     reinterpret_cast<const std::byte*>(data.data())},
                        output.data(), options.rows};
  if (is_quantized(test.format)) {
    product.weights.scales = scales.data();
    product.weights.group_size = kGroup;
  }
  const auto gigabytes =
      static_cast<double>(data.size() * sizeof(data[0]) + scales.size() * sizeof(BandScales)) / 1e9;
  std::vector<double> reads, products, ratios;
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(options.sharing.threads));
  for (int round = 0; round < options.rounds; ++round) {
    reads.push_back(
        bench::seconds_of_shares(options.sharing, options.rows, [&](std::int64_t begin, std::int64_t end) {
          sums[begin * options.sharing.threads / options.rows] +=
              std::accumulate(data.begin() + begin * words, data.begin() + end * words, std::uint64_t{0});
        }));
    products.push_back(
        bench::seconds_of_shares(options.sharing, options.rows, [&](std::int64_t begin, std::int64_t end) {
          LinearProduct part = product;
          part.row_begin = begin;
          part.row_end = end;
          multiply(part);
        }));
    ratios.push_back(reads.back() / products.back());
  }
  const double operations =
      2.0 * static_cast<double>(options.rows * options.columns) * static_cast<double>(options.count);
  fmt::print("{:<5} {} x {} threads: {:6.2f} GB/s, {:6.1f} GFLOP/s; a sum {:6.2f} GB/s, ratio {:.3f} ({})\n",
             test.name, options.count, options.sharing.threads, gigabytes / bench::median(products),
             operations / 1e9 / bench::median(products),
             static_cast<double>(data.size() * sizeof(data[0])) / 1e9 / bench::median(reads),
             bench::median(ratios), sums[0] % 10);
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  using namespace deepscale;
  Options options;
  cxxopts::Options line("linear_bench", "Rates of the inference products.");
  auto add = line.add_options();
  add("rows", "", cxxopts::value(options.rows));
  add("columns", "", cxxopts::value(options.columns));
  add("count", "activations", cxxopts::value(options.count));
  add("rounds", "", cxxopts::value(options.rounds));
  add("threads", "", cxxopts::value(options.sharing.threads));
  add("cpu_time", "not that of the wall", cxxopts::value(options.sharing.cpu_time));
  return bench::run(line, argc, argv, [&] {
    for (const Case& test : {Case{"fp32", WeightFormat::kFloat32}, Case{"bf16", WeightFormat::kBFloat16},
                             Case{"fp16", WeightFormat::kFloat16}, Case{"int8", WeightFormat::kInt8},
                             Case{"int4", WeightFormat::kInt4}})
      measure(options, test);
  });
}
