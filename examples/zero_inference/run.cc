#include "examples/zero_inference/run.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <thread>

#include "comm/base/error.h"
#include "comm/communicator.h"
#include "examples/zero_inference/gpu.h"
#include "examples/zero_inference/profile.h"
#include "examples/zero_inference/prompts.h"
#include "runtime/inference/dummy_weights.h"
#include "runtime/inference/generate.h"
#include "runtime/inference/host_decoder.h"
#include "runtime/inference/streamed_source.h"

namespace zero_inference {

using namespace deepscale;  // an example reads like a user's program

namespace {

constexpr double kGigabyte = 1 << 30;  // as run_model.py counts

// A folder for files of this run, which are gone after it; made when it is first asked for.
class OffloadFolder {
 public:
  OffloadFolder(const std::filesystem::path& parent, int rank) : parent_(parent), rank_(rank) {}
  ~OffloadFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  OffloadFolder(const OffloadFolder&) = delete;
  OffloadFolder& operator=(const OffloadFolder&) = delete;

  const std::filesystem::path& path() {
    if (!path_.empty()) return path_;
    const auto parent = parent_.empty() ? std::filesystem::temp_directory_path() : parent_;
    const auto path = parent / fmt::format("zero_inference-{}-{:x}", rank_, std::random_device{}());
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error)
      throw Error(ErrorCode::kSystem,
                  fmt::format("cannot make the folder {}: {}; --offload-dir names another place",
                              path.string(), error.message()));
    return path_ = path;
  }

 private:
  std::filesystem::path parent_, path_;
  int rank_;
};

std::shared_ptr<const ModelWeights> open_weights(const Options& options, const ModelConfig& config,
                                                 OffloadFolder& folder) {
  std::filesystem::path directory = options.model;
  if (options.is_dummy) {
    directory = folder.path();
    write_dummy_weights(config, directory, options.seed);
  }
  return std::make_shared<ModelWeights>(config, std::make_shared<WeightFiles>(directory));
}

std::unique_ptr<LayerSource> make_source(const Options& options,
                                         const std::shared_ptr<const ModelWeights>& weights,
                                         OffloadFolder& folder, int threads) {
  const bool quantises = options.quant_bits != 16;
  if (options.offloads_to_disk) {
    return make_streamed_source(quantises
                                    ? write_quantized_layers(*weights, options.quant_bits, options.group_size,
                                                             folder.path() / "layers.quantized", threads)
                                    : layers_in_files(*weights));
  }
  return quantises ? make_quantized_source(*weights, options.quant_bits, options.group_size, threads)
                   : make_mapped_source(weights);
}

int thread_count(const Options& options, const WorldLayout& layout, const Environment& environment) {
  if (options.threads > 0) return options.threads;
  const int given = std::atoi(environment.get_or("OMP_NUM_THREADS", "0").c_str());
  if (given > 0) return given;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / layout.local_world_size);
}

// Sums and maxima over the ranks.
class Ranks {
 public:
  explicit Ranks(const WorldLayout& layout, const Environment& environment) {
    const Logger logger("zero_inference",
                        parse_log_level(environment.get_or("DEEPSCALE_LOG_LEVEL", "warning")));
    std::shared_ptr<Store> store;
    if (layout.world_size > 1)
      store = join_job_store(layout, logger, Deadline::after(std::chrono::minutes(2)));
    communicator_ = make_communicator(
        layout, store, {.backend = environment.get_or("DEEPSCALE_BACKEND", ""), .logger = logger});
  }
  double combine(double value, ReduceOp op) {
    auto narrow = static_cast<float>(value);
    communicator_->all_reduce({.data = &narrow, .count = 1}, op).wait();
    return narrow;
  }
  void meet() { communicator_->barrier().wait(); }

 private:
  std::unique_ptr<Communicator> communicator_;
};

void print_texts(const Prompts& prompts, const Generation& generation, std::size_t first) {
  constexpr std::size_t kShown = 3;
  for (std::size_t i = 0; i < std::min(kShown, generation.tokens.size()); ++i)
    fmt::print("{}: {}\n{}\n", first + i, prompts.text(prompts.tokens()[first + i]),
               prompts.text(generation.tokens[i]));
  fmt::print("----------\n");
}

struct Summary {
  bool is_on_gpu = false;
  double weights = 0, cache = 0, hidden = 0, peak = 0;
  double prefill = 0, decode = 0;
  double prompt_tokens = 0, decoded = 0;

  void print(std::int64_t batch) const {
    const auto rate = [](double count, double seconds) { return seconds > 0 ? count / seconds : 0; };
    fmt::print(
        "model size: {:.3f} GB\tcache size: {:.3f} GB\thidden size (p): {:.3f} GB\n"
        "peak {}memory: {:.3f} GB\tprefill latency: {:.3f} s\tprefill throughput: {:.3f} token/s\n"
        "decode latency: {:.3f} s\tdecode throughput: {:.3f} token/s\n"
        "total latency: {:.3f} s\ttotal throughput: {:.3f} token/s\n",
        weights / kGigabyte, cache / kGigabyte, hidden / kGigabyte, is_on_gpu ? "gpu " : "", peak / kGigabyte,
        prefill, rate(prompt_tokens, prefill), decode, rate(decoded, decode), prefill + decode,
        rate(decoded + static_cast<double>(batch), prefill + decode));
  }
};

}  // namespace

void run(const Options& options) {
  const auto environment = Environment::of_process();
  const auto layout = WorldLayout::from_environment(environment);
  Ranks ranks(layout, environment);
  const ModelConfig config = read_model_config(options.model);
  OffloadFolder folder(options.offload_folder, layout.rank);
  const auto weights = open_weights(options, config, folder);

  const Prompts prompts(options, config);
  const auto share = [&](int rank) { return options.batch_size * rank / layout.world_size; };
  const std::int64_t first = share(layout.rank), count = share(layout.rank + 1) - first;
  const std::span own(prompts.tokens().data() + first, static_cast<std::size_t>(count));
  std::size_t longest = 1;
  for (const auto& prompt : prompts.tokens()) longest = std::max(longest, prompt.size());

  const bool is_fp32 = weights->outer().token_embedding.format == WeightFormat::kFloat32;
  const int threads = thread_count(options, layout, environment);
  const DecoderOptions decoder_options{
      .threads = threads,
      .sequences = std::max<std::int64_t>(count, 1),
      .positions = static_cast<std::int64_t>(longest) + options.generated_length - 1,
      .cache_dtype = is_fp32 ? DType::kFloat32 : DType::kBFloat16};
  const std::string gpu = choose_gpu(options, layout);
  auto source = make_source(options, weights, folder, threads);
  const std::unique_ptr<Decoder> decoder =
      gpu.empty() ? std::make_unique<HostDecoder>(weights, std::move(source), decoder_options)
                  : make_gpu_decoder(gpu, options, weights, std::move(source), decoder_options);

  Generation generation;
  Profile profile;
  for (int loop = 0; loop < options.loops; ++loop) {
    profile = {};
    ranks.meet();
    generation = generate(*decoder, own,
                          {.new_tokens = options.generated_length,
                           .samples = options.samples,
                           .temperature = options.temperature,
                           .top_k = options.top_k,
                           .top_p = options.top_p,
                           .seed = options.seed + static_cast<std::uint64_t>(first),
                           .end_tokens = {},
                           .after_step = [&] { profile.add(decoder->timings()); }});
  }
  std::int64_t prompt_tokens = 0;
  for (const auto& prompt : own) prompt_tokens += static_cast<std::int64_t>(prompt.size());
  const double hidden = static_cast<double>(options.batch_size) *
                        static_cast<double>(longest + static_cast<std::size_t>(options.generated_length)) *
                        static_cast<double>(config.hidden_size) * (is_fp32 ? 4 : 2);
  const Summary summary{.is_on_gpu = !gpu.empty(),
                        .weights = static_cast<double>(weights->bytes()),
                        .cache = ranks.combine(static_cast<double>(decoder->cache_bytes()), ReduceOp::kSum),
                        .hidden = hidden,
                        .peak = ranks.combine(static_cast<double>(decoder->peak_bytes()), ReduceOp::kMax),
                        .prefill = ranks.combine(generation.prefill.count(), ReduceOp::kMax),
                        .decode = ranks.combine(generation.decode.count(), ReduceOp::kMax),
                        .prompt_tokens = ranks.combine(static_cast<double>(prompt_tokens), ReduceOp::kSum),
                        .decoded = ranks.combine(static_cast<double>(generation.decoded), ReduceOp::kSum)};
  std::string bound;
  if (options.profiles) {
    ranks.meet();
    bound = profile.compare(decoder->read_layers());
  }
  if (layout.rank == 0) {
    print_texts(prompts, generation, static_cast<std::size_t>(first));
    summary.print(options.batch_size);
    if (options.profiles) fmt::print("{}{}", profile.table(), bound);
    if (!options.trace.empty()) profile.write_trace(options.trace, layout.rank);
  }
}

}  // namespace zero_inference
