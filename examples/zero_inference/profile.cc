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

std::string Profile::compare(const deepscale::LayerReading& bound) const {
  if (steps_.size() < 2 || bound.time.count() <= 0) return "";
  std::chrono::duration<double> time{0};
  for (std::size_t step = 1; step < steps_.size(); ++step)
    for (const deepscale::LayerTiming& timing : steps_[step]) time += timing.wait + timing.compute;
  const double seconds = time.count() / static_cast<double>(steps_.size() - 1);
  const double gigabytes = static_cast<double>(bound.bytes) / 1e9;
  return fmt::format(
      "a decode step reads {:.3f} GB of weights in {:.1f} ms: {:.2f} GB/s, {:.0f} % of the {:.2f} GB/s of "
      "reading them only\n",
      gigabytes, 1e3 * seconds, gigabytes / seconds, 100 * bound.time.count() / seconds,
      gigabytes / bound.time.count());
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
