// file_bench FOLDER [--mb N] [--block BYTES] [--depth N] [--rounds R] [--threads 1]: GB/s of a BlockStore
// that writes a file of N MiB and reads it back, past the system's cache; medians. The first write, into
// space that is only reserved, is apart: file systems do more for it.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "comm/base/error.h"
#include "runtime/offload/block_store.h"
#include "runtime/offload/host_buffer.h"

namespace deepscale {
namespace {

struct Options {
  BlockStoreOptions store;
  std::size_t bytes = std::size_t{1024} << 20;
  int rounds = 3;
};

Options parse(int count, char** arguments) {
  Options options;
  options.store.folder = arguments[1];
  options.store.queue_depth = 32;
  for (int i = 2; i + 1 < count; i += 2) {
    const std::string_view name = arguments[i];
    const long value = std::strtol(arguments[i + 1], nullptr, 10);
    if (name == "--mb") options.bytes = static_cast<std::size_t>(value) << 20;
    if (name == "--block") options.store.block_bytes = static_cast<std::size_t>(value);
    if (name == "--depth") options.store.queue_depth = static_cast<int>(value);
    if (name == "--rounds") options.rounds = static_cast<int>(value);
    if (name == "--threads") options.store.use_threads = value != 0;
  }
  return options;
}

template <typename Action>
double gigabytes_per_second(std::size_t bytes, const Action& action) {
  const auto begin = std::chrono::steady_clock::now();
  action();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(bytes) / 1e9 / elapsed.count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(const Options& options) {
  const HostBuffer buffer(options.bytes);
  for (std::size_t i = 0; i < buffer.bytes(); i += 8) std::memcpy(buffer.data() + i, &i, 8);
  BlockStore store(options.store);
  store.reserve(options.bytes);
  const auto write = [&] { store.write(0, buffer.data(), buffer.bytes()).wait(); };
  const auto read = [&] { store.read(0, buffer.data(), buffer.bytes()).wait(); };
  const double first = gigabytes_per_second(options.bytes, write);
  std::vector<double> writes, reads;
  for (int round = 0; round < options.rounds; ++round) {
    writes.push_back(gigabytes_per_second(options.bytes, write));
    std::memset(buffer.data(), 0, buffer.bytes());
    reads.push_back(gigabytes_per_second(options.bytes, read));
  }
  for (std::size_t i = 0; i < buffer.bytes(); i += 8) {
    if (std::memcmp(buffer.data() + i, &i, 8) != 0)
      throw Error(ErrorCode::kInternal, fmt::format("byte {} is not what was written", i));
  }
  fmt::print("{}: {} MiB, blocks of {} bytes, depth {}: first write {:.2f}, write {:.2f}, read {:.2f} GB/s\n",
             store.description(), options.bytes >> 20, options.store.block_bytes, options.store.queue_depth,
             first, median(writes), median(reads));
}

}  // namespace
}  // namespace deepscale

int main(int count, char** arguments) {
  if (count < 2) {
    fmt::print(stderr,
               "usage: file_bench FOLDER [--mb N] [--block BYTES] [--depth N] [--rounds R] [--threads 1]\n");
    return 2;
  }
  try {
    deepscale::measure(deepscale::parse(count, arguments));
  } catch (const deepscale::Error& error) {
    fmt::print(stderr, "file_bench: {}\n", error.what());
    return 1;
  }
}
