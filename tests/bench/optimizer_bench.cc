// optimizer_bench [--numel N] [--threads T] [--rounds R] [--cpu_time]: GB/s of the CPU optimizer loops,
// beside a plain sweep over seven streams (reads weight, gradient and moments, writes weight and moments),
// which is what memory allows. Both in turns over the same arrays; medians, and the median of the ratios of
// neighbouring turns.
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "comm/base/half.h"
#include "runtime/offload/host_buffer.h"
#include "runtime/offload/optimizer_kernels.h"
#include "tests/bench/bench_tools.h"

namespace deepscale {
namespace {

struct Options {
  std::int64_t numel = 64 * 1024 * 1024;
  int rounds = 9;
  bench::Sharing sharing;
};

// Values of the size that training has: subnormal ones would cost more.
struct Arrays {
  explicit Arrays(std::int64_t numel) {
    for (HostBuffer* buffer : {&master, &gradient, &first, &second, &parameter}) {
      *buffer = HostBuffer(static_cast<std::size_t>(numel) * 4);
      std::fill_n(floats(*buffer), numel, 0.01f);
    }
  }
  void fill_gradient(DType dtype, std::int64_t numel) const {
    if (dtype == DType::kFloat32) {
      std::fill_n(floats(gradient), numel, 0.01f);
      return;
    }
    const std::uint16_t value = dtype == DType::kBFloat16 ? float_to_bf16(0.01f) : float_to_fp16(0.01f);
    std::fill_n(reinterpret_cast<std::uint16_t*>(gradient.data()), numel, value);
  }
  static float* floats(const HostBuffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }
  HostBuffer master, gradient, first, second, parameter;
};

DEEPSCALE_INLINE void sweep_any(const Arrays& arrays, std::int64_t begin, std::int64_t count) {
  float* __restrict weight = Arrays::floats(arrays.master) + begin;
  const float* __restrict gradient = Arrays::floats(arrays.gradient) + begin;
  float* __restrict first = Arrays::floats(arrays.first) + begin;
  float* __restrict second = Arrays::floats(arrays.second) + begin;
  for (std::int64_t i = 0; i < count; ++i) {
    const float g = gradient[i];
    first[i] = 0.9f * first[i] + 0.1f * g;
    second[i] = 0.99f * second[i] + 0.01f * g * g;
    weight[i] = weight[i] - 1e-3f * first[i] * second[i];
  }
}

void sweep_portable(const Arrays& arrays, std::int64_t begin, std::int64_t count) {
  sweep_any(arrays, begin, count);
}
DEEPSCALE_FOR_AVX2 void sweep_avx2(const Arrays& arrays, std::int64_t begin, std::int64_t count) {
  sweep_any(arrays, begin, count);
}
DEEPSCALE_FOR_AVX512 void sweep_avx512(const Arrays& arrays, std::int64_t begin, std::int64_t count) {
  sweep_any(arrays, begin, count);
}

void sweep(const Arrays& arrays, std::int64_t begin, std::int64_t count) {
  switch (available(InstructionSet::kBest)) {
    case InstructionSet::kAvx512:
      return sweep_avx512(arrays, begin, count);
    case InstructionSet::kAvx2:
      return sweep_avx2(arrays, begin, count);
    default:
      return sweep_portable(arrays, begin, count);
  }
}

struct Case {
  const char* name;
  OptimizerKind kind;
  DType half;  // of gradient and parameter; kFloat32: no parameter apart
};

double bytes_per_element(const OptimizerConfig& config) {
  const double state = 8.0 * (1 + has_first_moment(config) + has_second_moment(config));
  return state + 4.0;  // fp32: the gradient is read; 16-bit: and the parameter written
}

void measure(const Options& options, const Arrays& arrays, const Case& test) {
  OptimizerConfig config{.kind = test.kind, .weight_decay = 0.01, .momentum = 0.9};
  const UpdateRule rule =
      make_update_rule(config, {.number = 10, .learning_rate = 1e-4, .betas = config.betas});
  arrays.fill_gradient(test.half, options.numel);
  const bool is_half = test.half != DType::kFloat32;
  const UpdateSpan span{.master = Arrays::floats(arrays.master),
                        .gradient = arrays.gradient.data(),
                        .gradient_dtype = test.half,
                        .first_moment = has_first_moment(config) ? Arrays::floats(arrays.first) : nullptr,
                        .second_moment = has_second_moment(config) ? Arrays::floats(arrays.second) : nullptr,
                        .parameter = is_half ? arrays.parameter.data() : nullptr,
                        .parameter_dtype = test.half,
                        .numel = options.numel};
  const double numel = static_cast<double>(options.numel);
  std::vector<double> bounds, rates, ratios;
  const auto seconds_of = [&](const std::function<void(std::int64_t, std::int64_t)>& work) {
    return bench::seconds_of_shares(options.sharing, options.numel, work);
  };
  for (int round = 0; round < options.rounds; ++round) {
    bounds.push_back(28.0 * numel / 1e9 / seconds_of([&](std::int64_t begin, std::int64_t end) {
                       sweep(arrays, begin, end - begin);
                     }));
    rates.push_back(bytes_per_element(config) * numel / 1e9 /
                    seconds_of([&](std::int64_t begin, std::int64_t end) {
                      update(rule, span.part(begin, end - begin));
                    }));
    ratios.push_back(rates.back() / bounds.back());
  }
  fmt::print("{:<14} {} threads: {:6.2f} GB/s, seven streams {:6.2f} GB/s, ratio {:.3f}\n", test.name,
             options.sharing.threads, bench::median(rates), bench::median(bounds), bench::median(ratios));
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  using namespace deepscale;
  Options options;
  cxxopts::Options line("optimizer_bench", "Rates of the CPU optimizer loops.");
  auto add = line.add_options();
  add("numel", "", cxxopts::value(options.numel));
  add("rounds", "", cxxopts::value(options.rounds));
  add("threads", "", cxxopts::value(options.sharing.threads));
  add("cpu_time", "not that of the wall", cxxopts::value(options.sharing.cpu_time));
  return bench::run(line, argc, argv, [&] {
    const Arrays arrays(options.numel);
    for (const Case& test : {Case{"AdamW fp32", OptimizerKind::kAdamW, DType::kFloat32},
                             Case{"AdamW bf16", OptimizerKind::kAdamW, DType::kBFloat16},
                             Case{"AdamW fp16", OptimizerKind::kAdamW, DType::kFloat16},
                             Case{"Lion bf16", OptimizerKind::kLion, DType::kBFloat16},
                             Case{"Adagrad fp32", OptimizerKind::kAdagrad, DType::kFloat32},
                             Case{"SGD fp32", OptimizerKind::kSgd, DType::kFloat32}}) {
      measure(options, arrays, test);
    }
  });
}
