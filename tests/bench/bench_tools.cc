#include "tests/bench/bench_tools.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <thread>

#include "comm/base/error.h"

namespace deepscale::bench {

double median(std::vector<double> values) {
  if (values.empty()) throw Error(ErrorCode::kInvalidArgument, "nothing was measured: no rounds or steps");
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double seconds_of_shares(const Sharing& sharing, std::int64_t size,
                         const std::function<void(std::int64_t, std::int64_t)>& work) {
  if (sharing.threads < 1) throw Error(ErrorCode::kInvalidArgument, "there is work for one thread at least");
  const auto bound = [&](int i) { return size * i / sharing.threads; };
  const std::clock_t cpu_begin = std::clock();
  const double seconds = seconds_of([&] {
    std::vector<std::thread> threads;
    for (int i = 1; i < sharing.threads; ++i)
      threads.emplace_back([&work, begin = bound(i), end = bound(i + 1)] { work(begin, end); });
    work(0, bound(1));
    for (std::thread& thread : threads) thread.join();
  });
  if (!sharing.cpu_time) return seconds;
  return static_cast<double>(std::clock() - cpu_begin) / CLOCKS_PER_SEC / sharing.threads;
}

double megabytes_in(const std::string& file, const std::string& key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(key + ":", 0) == 0) return std::atof(line.c_str() + key.size() + 1) / 1024.0;
  }
  return 0.0;
}

int run(cxxopts::Options& options, int argc, char** argv, const std::function<void()>& measure) {
  try {
    const cxxopts::ParseResult given = options.parse(argc, argv);
    if (!given.unmatched().empty()) {
      fmt::print(stderr, "{}: what is '{}' for?\n{}", options.program(), given.unmatched().front(),
                 options.help());
      return 2;
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n{}", options.program(), error.what(), options.help());
    return 2;
  }
  try {
    measure();
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", options.program(), error.what());
    return 1;
  }
}

}  // namespace deepscale::bench
