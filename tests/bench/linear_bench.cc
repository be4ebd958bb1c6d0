// linear_bench [--rows N] [--columns K] [--count M] [--threads T] [--rounds R] [--cpu_time 1]: GB/s of
// weights and GFLOP/s of the inference products, in every format and for M activations, beside a plain sum
// over the same bytes, which is what memory allows. Both in turns over the same weights; medians, and the
// median of the ratios of neighbouring turns.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <numeric>
#include <string_view>
#include <thread>
#include <vector>

#include "runtime/inference/linear_kernel.h"

namespace deepscale {
namespace {

struct Options {
  std::int64_t rows = 64 * 1024;
  std::int64_t columns = 2048;
  std::int64_t count = 8;
  int threads = 1;
  int rounds = 9;
  bool cpu_time = false;
};

// Seconds of `work` on shares of [0, rows).
double seconds_of(const Options& options, const std::function<void(std::int64_t, std::int64_t)>& work) {
  const auto begin = std::chrono::steady_clock::now();
  const std::clock_t cpu_begin = std::clock();
  const auto bound = [&](int i) { return options.rows * i / options.threads; };
  std::vector<std::thread> threads;
  for (int i = 1; i < options.threads; ++i)
    threads.emplace_back([&work, from = bound(i), end = bound(i + 1)] { work(from, end); });
  work(0, bound(1));
  for (std::thread& thread : threads) thread.join();
  if (options.cpu_time)
    return static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC / options.threads;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

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
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(options.threads));
  for (int round = 0; round < options.rounds; ++round) {
    reads.push_back(seconds_of(options, [&](std::int64_t begin, std::int64_t end) {
      sums[begin * options.threads / options.rows] +=
          std::accumulate(data.begin() + begin * words, data.begin() + end * words, std::uint64_t{0});
    }));
    products.push_back(seconds_of(options, [&](std::int64_t begin, std::int64_t end) {
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
             test.name, options.count, options.threads, gigabytes / median(products),
             operations / 1e9 / median(products),
             static_cast<double>(data.size() * sizeof(data[0])) / 1e9 / median(reads), median(ratios),
             sums[0] % 10);
}

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = arguments[i];
    const long value = std::strtol(arguments[i + 1], nullptr, 10);
    if (name == "--rows") options.rows = value;
    if (name == "--columns") options.columns = value;
    if (name == "--count") options.count = value;
    if (name == "--threads") options.threads = static_cast<int>(value);
    if (name == "--rounds") options.rounds = static_cast<int>(value);
    if (name == "--cpu_time") options.cpu_time = value != 0;
  }
  return options;
}

}  // namespace
}  // namespace deepscale

int main(int count, char** arguments) {
  using namespace deepscale;
  const Options options = parse(count, arguments);
  for (const Case& test : {Case{"fp32", WeightFormat::kFloat32}, Case{"bf16", WeightFormat::kBFloat16},
                           Case{"fp16", WeightFormat::kFloat16}, Case{"int8", WeightFormat::kInt8},
                           Case{"int4", WeightFormat::kInt4}})
    measure(options, test);
}
