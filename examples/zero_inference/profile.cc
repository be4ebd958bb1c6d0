#include "examples/zero_inference/profile.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

#include "runtime/checkpoint/durable_file.h"

namespace zero_inference {

namespace {

using Milliseconds = std::chrono::duration<double, std::milli>;
using Microseconds = std::chrono::duration<double, std::micro>;

struct Sums {
  std::chrono::nanoseconds transfer{0}, wait{0}, compute{0};
  std::int64_t bytes = 0;

  void add(const deepscale::LayerTiming& timing) {
    transfer += timing.transfer.time;
    wait += timing.wait;
    compute += timing.compute;
    bytes += timing.transfer.bytes;
  }
  std::string row(const std::string& name, std::size_t steps) const {
    const auto mean = [&](std::chrono::nanoseconds time) {
      return Milliseconds(time).count() / static_cast<double>(steps);
    };
    const double seconds = std::chrono::duration<double>(transfer).count();
    const std::string rate =
        bytes == 0 ? "-" : fmt::format("{:.2f}", static_cast<double>(bytes) / seconds / 1e9);
    return fmt::format("{:>6} {:>12.3f} {:>12.3f} {:>12.3f} {:>10}\n", name, mean(transfer), mean(wait),
                       mean(compute), rate);
  }
};

}  // namespace

void Profile::add(std::span<const deepscale::LayerTiming> timings) {
  steps_.emplace_back(timings.begin(), timings.end());
}

std::string Profile::table() const {
  if (steps_.empty()) return "";
  std::string text = fmt::format("{:>6} {:>12} {:>12} {:>12} {:>10}\n", "layer", "transfer ms", "wait ms",
                                 "compute ms", "GB/s");
  Sums all;
  for (std::size_t layer = 0; layer < steps_.front().size(); ++layer) {
    Sums sums;
    for (const auto& step : steps_) {
      sums.add(step[layer]);
      all.add(step[layer]);
    }
    text += sums.row(std::to_string(layer), steps_.size());
  }
  return text + all.row("all", steps_.size());
}

void Profile::write_trace(const std::filesystem::path& path, int rank) const {
  std::string text = "[";
  std::string_view separator = "";
  const auto event = [&](const char* name, int lane, std::chrono::nanoseconds start,
                         std::chrono::nanoseconds length, std::size_t layer) {
    fmt::format_to(
        std::back_inserter(text),
        R"({}{{"name":"{}","ph":"X","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f},"args":{{"layer":{}}}}})",
        separator, name, rank, lane, Microseconds(start).count(), Microseconds(length).count(), layer);
    separator = ",\n";
  };
  for (const auto& step : steps_) {
    for (std::size_t layer = 0; layer < step.size(); ++layer) {
      const deepscale::LayerTiming& timing = step[layer];
      const auto got = timing.start + timing.wait;
      if (timing.wait.count() > 0) event("wait", 0, timing.start, timing.wait, layer);
      event("compute", 0, got, timing.compute, layer);
      if (timing.transfer.bytes > 0) event("transfer", 1, timing.transfer.start, timing.transfer.time, layer);
    }
  }
  deepscale::replace_file(path, text + "]\n");
}

}  // namespace zero_inference
