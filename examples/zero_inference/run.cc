#include "examples/zero_inference/run.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <functional>
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

// What the ranks do together.
class Ranks {
 public:
  Ranks(const WorldLayout& layout, const Environment& environment) : layout_(layout) {
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

  const WorldLayout& layout() const { return layout_; }
  // One rank of each host does it; all return when it is done everywhere.
  void once_a_host(const std::function<void()>& work) {
    if (layout_.local_rank == 0) work();
    meet();
  }

 private:
  const WorldLayout layout_;
  std::unique_ptr<Communicator> communicator_;
};

// A folder for files of this run, which all ranks of a host share; made when it is first asked for. The rank
// that makes it removes it in the end.
class OffloadFolder {
 public:
  OffloadFolder(const std::filesystem::path& parent, Ranks& ranks)
      : path_((parent.empty() ? std::filesystem::temp_directory_path() : parent) /
              fmt::format("zero_inference-{:x}", common_number(ranks))),
        is_owner_(ranks.layout().local_rank == 0) {}
  ~OffloadFolder() {
    std::error_code ignored;
    if (is_owner_) std::filesystem::remove_all(path_, ignored);
  }
  OffloadFolder(const OffloadFolder&) = delete;
  OffloadFolder& operator=(const OffloadFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void make() const {
    std::error_code error;
    std::filesystem::create_directories(path_, error);
    if (error)
      throw Error(ErrorCode::kSystem,
                  fmt::format("cannot make the folder {}: {}; --offload-dir names another place",
                              path_.string(), error.message()));
  }

 private:
  static std::int64_t common_number(Ranks& ranks) {
    constexpr std::uint32_t kMost = 1 << 24;  // what the ranks' sums are exact for
    return static_cast<std::int64_t>(ranks.combine(std::random_device{}() % kMost, ReduceOp::kMax));
  }

  const std::filesystem::path path_;
  const bool is_owner_;
};

std::shared_ptr<const ModelWeights> open_weights(const Options& options, const ModelConfig& config,
                                                 const OffloadFolder& folder, Ranks& ranks) {
  if (options.is_dummy) {
    ranks.once_a_host([&] {
      folder.make();
      write_dummy_weights(config, folder.path(), options.seed);
    });
  }
  return std::make_shared<ModelWeights>(
      config, std::make_shared<WeightFiles>(options.is_dummy ? folder.path() : options.model));
}

// Quantised layers are in the memory of a rank that is alone, and in a file that all ranks of a host map.
std::unique_ptr<LayerSource> make_source(const Options& options,
                                         const std::shared_ptr<const ModelWeights>& weights,
                                         const OffloadFolder& folder, Ranks& ranks, int threads) {
  const WorldLayout& layout = ranks.layout();
  const int bits = options.quant_bits;
  if (bits == 16)
    return options.offloads_to_disk ? make_streamed_source(layers_in_files(*weights))
                                    : make_mapped_source(weights);
  if (!options.offloads_to_disk && layout.local_world_size == 1)
    return make_quantized_source(*weights, bits, options.group_size, threads);
  const std::filesystem::path file = folder.path() / "layers.quantized";
  ranks.once_a_host([&] {
    folder.make();
    write_quantized_layers(*weights, bits, options.group_size, file, threads * layout.local_world_size);
  });
  StreamedLayers layers = quantized_layers_in(*weights, bits, options.group_size, file);
  return options.offloads_to_disk ? make_streamed_source(std::move(layers))
                                  : make_mapped_source(std::move(layers));
}

int thread_count(const Options& options, const WorldLayout& layout, const Environment& environment) {
  if (options.threads > 0) return options.threads;
  const int given = std::atoi(environment.get_or("OMP_NUM_THREADS", "0").c_str());
  if (given > 0) return given;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / layout.local_world_size);
}

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

void generate_and_tell(const Options& options, const Environment& environment, const OffloadFolder& folder,
                       Ranks& ranks) {
  const WorldLayout& layout = ranks.layout();
  const ModelConfig config = read_model_config(options.model);
  const auto weights = open_weights(options, config, folder, ranks);

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
  auto source = make_source(options, weights, folder, ranks, threads);
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

}  // namespace

void run(const Options& options) {
  const auto environment = Environment::of_process();
  Ranks ranks(WorldLayout::from_environment(environment), environment);
  const OffloadFolder folder(options.offload_folder, ranks);
  generate_and_tell(options, environment, folder, ranks);
  ranks.meet();  // Windows removes no file that a rank has still mapped
}

}  // namespace zero_inference
