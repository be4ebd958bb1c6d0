#include "examples/zero_inference/options.h"

#include <algorithm>

#include "examples/common/command_line.h"

namespace zero_inference {
namespace {

constexpr std::int64_t kMost = 1 << 30;

std::vector<examples::CommandLine::Option> declarations() {
  return {
      {"model", "DIR", "folder of a Hugging Face model: config.json, safetensors, tokenizer.json"},
      {"dummy", "", "random weights in the shape of DIR/config.json, written to --offload-dir"},
      {"batch-size", "N", "prompts, over all ranks; by default as many as --prompt gives"},
      {"prompt-len", "N", "tokens that prompts are cut or padded to; 0: as they are", "512"},
      {"gen-len", "N", "tokens to generate", "32"},
      {"prompt", "TEXT", "a prompt instead of the example's own; may be given several times"},
      {"loops", "N", "repetitions; the summary is of the last", "3"},
      {"device", "cpu|cuda", "what computes; by default a GPU where the build and the machine have one",
       "auto"},
      {"cpu-offload", "",
       "weights in host memory, and a layer ahead on the GPU; on the CPU they are there anyway"},
      {"disk-offload", "", "weights stay in files and are read ahead of their use, layer by layer"},
      {"offload-dir", "DIR", "where quantised or random weights are written"},
      {"kv-offload", "", "keys and values in host memory; on the CPU they are there anyway"},
      {"async-kv-offload", "", "the same"},
      {"quant-bits", "N", "16: as stored; 8 or 4: quantised by groups", "16"},
      {"quant_bits", "N", "the same"},
      {"group-size", "N", "columns that share a scale, with --quant-bits", "64"},
      {"pin-memory", "0|1", "with --cpu-offload: pinned host memory for the copies to a GPU", "0"},
      {"threads", "N", "threads of each rank; 0: its cores, or OMP_NUM_THREADS", "0"},
      {"do-sample", "", "sample instead of taking the likeliest token"},
      {"temperature", "T", "of sampling", "1"},
      {"top-k", "N", "sample among the N likeliest; 0: all", "0"},
      {"top-p", "P", "sample among the likeliest that make up P", "1"},
      {"seed", "N", "of sampling, random prompts and random weights", "0"},
      {"profile", "", "time of each layer in transfer, wait and compute"},
      {"trace", "FILE", "a Chrome trace of the last loop (chrome://tracing, Perfetto)"},
  };
}

void read_places(const examples::CommandLine& line, Options& options) {
  options.device = line.choice("device", {"auto", "cpu", "cuda"});
  options.offloads_to_cpu = line.flag("cpu-offload");
  options.offloads_to_disk = line.flag("disk-offload");
  if (options.offloads_to_cpu && options.offloads_to_disk)
    line.refuse("--cpu-offload and --disk-offload exclude each other: weights are in one place");
  options.offloads_cache = line.flag("kv-offload") || line.flag("async-kv-offload");
  options.offload_folder = line.text("offload-dir");
  options.quant_bits =
      std::stoi(line.choice(line.has("quant_bits") ? "quant_bits" : "quant-bits", {"16", "8", "4"}));
  options.group_size = line.integer("group-size", 32, kMost);
  options.pins_memory = line.integer("pin-memory", 0, 1) == 1;
  options.threads = static_cast<int>(line.integer("threads", 0, 4096));
}

void read_sampling(const examples::CommandLine& line, Options& options) {
  options.samples = line.flag("do-sample");
  options.temperature = line.real("temperature", 0.0, 1e6);
  options.top_k = line.integer("top-k", 0, kMost);
  options.top_p = line.real("top-p", 0.0, 1.0);
  options.seed = static_cast<std::uint64_t>(line.integer("seed", 0));
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) {
  examples::CommandLine line(
      "zero_inference",
      "Generates with a language model whose weights may be larger than the memory for them.\n"
      "Start it alone, or on several ranks, which share the prompts: "
      "deepscale launch --num_gpus 2 zero_inference --model DIR",
      declarations());
  if (!line.parse(argc, argv)) return std::nullopt;
  Options options;
  options.model = line.required("model");
  options.is_dummy = line.flag("dummy");
  options.prompts = line.texts("prompt");
  options.batch_size = line.has("batch-size")
                           ? line.integer("batch-size", 1, kMost)
                           : std::max<std::int64_t>(1, static_cast<std::int64_t>(options.prompts.size()));
  options.prompt_length = line.integer("prompt-len", 0, kMost);
  options.generated_length = line.integer("gen-len", 1, kMost);
  options.loops = static_cast<int>(line.integer("loops", 1, 1000000));
  options.profiles = line.flag("profile");
  options.trace = line.text("trace");
  read_places(line, options);
  read_sampling(line, options);
  return options;
}

}  // namespace zero_inference
