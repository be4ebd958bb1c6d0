// file_bench FOLDER [--mb N] [--block BYTES] [--depth N] [--rounds R] [--threads]: GB/s of a BlockStore
// that writes a file of N MiB and reads it back, past the system's cache; medians. The first write, into
// space that is only reserved, is apart: file systems do more for it.
#include <fmt/core.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "comm/base/error.h"
#include "runtime/offload/block_store.h"
#include "runtime/offload/host_buffer.h"
#include "tests/bench/bench_tools.h"

namespace deepscale {
namespace {

struct Options {
  std::string folder;
  BlockStoreOptions store;
  std::size_t megabytes = 1024;
  int rounds = 3;
};

void measure(const Options& options) {
  const HostBuffer buffer(options.megabytes << 20);
  for (std::size_t i = 0; i < buffer.bytes(); i += 8) std::memcpy(buffer.data() + i, &i, 8);
  BlockStoreOptions store_options = options.store;
  store_options.folder = options.folder;
  BlockStore store(store_options);
  store.reserve(buffer.bytes());
  const auto rate_of = [&](const std::function<void()>& work) {
    return static_cast<double>(buffer.bytes()) / 1e9 / bench::seconds_of(work);
  };
  const auto write = [&] { store.write(0, buffer.data(), buffer.bytes()).wait(); };
  const auto read = [&] { store.read(0, buffer.data(), buffer.bytes()).wait(); };
  const double first = rate_of(write);
  std::vector<double> writes, reads;
  for (int round = 0; round < options.rounds; ++round) {
    writes.push_back(rate_of(write));
    std::memset(buffer.data(), 0, buffer.bytes());
    reads.push_back(rate_of(read));
  }
  for (std::size_t i = 0; i < buffer.bytes(); i += 8) {
    if (std::memcmp(buffer.data() + i, &i, 8) != 0)
      throw Error(ErrorCode::kInternal, fmt::format("byte {} is not what was written", i));
  }
  fmt::print("{}: {} MiB, blocks of {} bytes, depth {}: first write {:.2f}, write {:.2f}, read {:.2f} GB/s\n",
             store.description(), options.megabytes, options.store.block_bytes, options.store.queue_depth,
             first, bench::median(writes), bench::median(reads));
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  using namespace deepscale;
  Options options;
  options.store.queue_depth = 32;
  cxxopts::Options line("file_bench", "Rates of a BlockStore in a folder.");
  auto add = line.add_options();
  add("folder", "", cxxopts::value(options.folder));
  add("mb", "MiB of the file", cxxopts::value(options.megabytes));
  add("block", "bytes", cxxopts::value(options.store.block_bytes));
  add("depth", "blocks at a time", cxxopts::value(options.store.queue_depth));
  add("rounds", "", cxxopts::value(options.rounds));
  add("threads", "threads instead of the system's queue", cxxopts::value(options.store.use_threads));
  line.parse_positional("folder");
  line.positional_help("FOLDER");
  return bench::run(line, argc, argv, [&] {
    if (options.folder.empty())
      throw Error(ErrorCode::kInvalidArgument, "which folder? usage: file_bench FOLDER");
    measure(options);
  });
}
