#include "examples/zero_inference/options.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cxxopts.hpp>
#include <limits>

#include "comm/base/error.h"
#include "comm/base/suggest.h"

namespace zero_inference {

using deepscale::Error;
using deepscale::ErrorCode;

namespace {

struct Declaration {
  const char* name;
  const char* value;  // what stands for it in the help; empty: a flag
  const char* help;
  const char* fallback;
};

constexpr Declaration kDeclarations[] = {
    {"model", "DIR", "folder of a Hugging Face model: config.json, safetensors, tokenizer.json", ""},
    {"dummy", "", "random weights in the shape of DIR/config.json, written to --offload-dir", ""},
    {"batch-size", "N", "prompts, over all ranks; by default as many as --prompt gives", ""},
    {"prompt-len", "N", "tokens that prompts are cut or padded to; 0: as they are", "512"},
    {"gen-len", "N", "tokens to generate", "32"},
    {"prompt", "TEXT", "a prompt instead of the example's own; may be given several times", ""},
    {"loops", "N", "repetitions; the summary is of the last", "3"},
    {"device", "cpu|cuda", "what computes; by default a GPU where the build and the machine have one",
     "auto"},
    {"cpu-offload", "",
     "weights in host memory, and a layer ahead on the GPU; on the CPU they are there anyway", ""},
    {"disk-offload", "", "weights stay in files and are read ahead of their use, layer by layer", ""},
    {"offload-dir", "DIR", "where quantised or random weights are written", ""},
    {"kv-offload", "", "keys and values in host memory; on the CPU they are there anyway", ""},
    {"async-kv-offload", "", "the same", ""},
    {"quant-bits", "N", "16: as stored; 8 or 4: quantised by groups", "16"},
    {"quant_bits", "N", "the same", ""},
    {"group-size", "N", "columns that share a scale, with --quant-bits", "64"},
    {"pin-memory", "0|1", "with --cpu-offload: pinned host memory for the copies to a GPU", "0"},
    {"threads", "N", "threads of each rank; 0: its cores, or OMP_NUM_THREADS", "0"},
    {"do-sample", "", "sample instead of taking the likeliest token", ""},
    {"temperature", "T", "of sampling", "1"},
    {"top-k", "N", "sample among the N likeliest; 0: all", "0"},
    {"top-p", "P", "sample among the likeliest that make up P", "1"},
    {"seed", "N", "of sampling, random prompts and random weights", "0"},
    {"profile", "", "time of each layer in transfer, wait and compute", ""},
    {"trace", "FILE", "a Chrome trace of the last loop (chrome://tracing, Perfetto)", ""},
    {"local_rank", "N", "accepted and ignored: a rank reads its environment", ""},
    {"help", "", "print this", ""},
};

cxxopts::Options make_parser() {
  cxxopts::Options parser(
      "zero_inference",
      "Generates with a language model whose weights may be larger than the memory for them.\n"
      "Start it alone, or on several ranks, which share the prompts: "
      "deepscale launch --num_gpus 2 zero_inference --model DIR");
  parser.custom_help("--model DIR [options]").set_width(100).allow_unrecognised_options();
  for (const Declaration& option : kDeclarations) {
    const std::string name = option.name, names = name == "help" ? "h,help" : name;
    if (*option.value == '\0') {
      parser.add_options()(names, option.help);
    } else if (name == "prompt") {
      parser.add_options()(names, option.help, cxxopts::value<std::vector<std::string>>(), option.value);
    } else {
      const auto text = cxxopts::value<std::string>();
      if (*option.fallback != '\0') text->default_value(option.fallback);
      parser.add_options()(names, option.help, text, option.value);
    }
  }
  return parser;
}

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message + " (zero_inference --help lists the options)");
}

std::int64_t whole_number(const cxxopts::ParseResult& parsed, const std::string& name, std::int64_t least,
                          std::int64_t most = 1 << 30) {
  const auto text = parsed[name].as<std::string>();
  std::int64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || end != text.data() + text.size() || number < least || number > most)
    refuse(fmt::format("--{}: expected a whole number from {} to {}, got \"{}\"", name, least, most, text));
  return number;
}

double decimal_number(const cxxopts::ParseResult& parsed, const std::string& name) {
  const auto text = parsed[name].as<std::string>();
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(number))
    refuse(fmt::format("--{}: expected a number, got \"{}\"", name, text));
  return number;
}

int quant_bits(const cxxopts::ParseResult& parsed) {
  const std::string name = parsed.count("quant_bits") > 0 ? "quant_bits" : "quant-bits";
  const auto text = parsed[name].as<std::string>();
  if (text != "16" && text != "8" && text != "4")
    refuse(fmt::format("--{}: expected 16, 8 or 4, got \"{}\"", name, text));
  return std::atoi(text.c_str());
}

void refuse_unknown(const std::vector<std::string>& unknown) {
  if (unknown.empty()) return;
  const std::string name = unknown.front().substr(0, unknown.front().find('='));
  std::vector<std::string> known;
  for (const Declaration& option : kDeclarations) known.push_back(std::string("--") + option.name);
  refuse(fmt::format("there is no option \"{}\".{}", name, deepscale::did_you_mean(name, known)));
}

Options read_options(const cxxopts::ParseResult& parsed) {
  const auto given = [&](const char* name) { return parsed.count(name) > 0; };
  const auto path = [&](const char* name) {
    return std::filesystem::path(given(name) ? parsed[name].as<std::string>() : "");
  };
  Options options;
  if (!given("model")) refuse("--model is missing: the folder of a Hugging Face model");
  options.model = path("model");
  options.is_dummy = given("dummy");
  if (given("prompt")) options.prompts = parsed["prompt"].as<std::vector<std::string>>();
  options.batch_size = given("batch-size")
                           ? whole_number(parsed, "batch-size", 1)
                           : std::max<std::int64_t>(1, static_cast<std::int64_t>(options.prompts.size()));
  options.prompt_length = whole_number(parsed, "prompt-len", 0);
  options.generated_length = whole_number(parsed, "gen-len", 1);
  options.loops = static_cast<int>(whole_number(parsed, "loops", 1, 1000000));
  options.device = parsed["device"].as<std::string>();
  if (options.device != "auto" && options.device != "cpu" && options.device != "cuda")
    refuse(fmt::format("--device: expected cpu or cuda, got \"{}\"", options.device));
  options.offloads_to_cpu = given("cpu-offload");
  options.offloads_to_disk = given("disk-offload");
  if (options.offloads_to_cpu && options.offloads_to_disk)
    refuse("--cpu-offload and --disk-offload exclude each other: weights are in one place");
  options.offloads_cache = given("kv-offload") || given("async-kv-offload");
  options.offload_folder = path("offload-dir");
  options.quant_bits = quant_bits(parsed);
  options.group_size = whole_number(parsed, "group-size", 32);
  options.pins_memory = whole_number(parsed, "pin-memory", 0, 1) == 1;
  options.threads = static_cast<int>(whole_number(parsed, "threads", 0, 4096));
  options.samples = given("do-sample");
  options.temperature = decimal_number(parsed, "temperature");
  options.top_k = whole_number(parsed, "top-k", 0);
  options.top_p = decimal_number(parsed, "top-p");
  options.seed = static_cast<std::uint64_t>(whole_number(parsed, "seed", 0));
  options.profiles = given("profile");
  options.trace = path("trace");
  return options;
}

}  // namespace

std::optional<Options> parse_options(int argc, const char* const* argv) try {
  cxxopts::Options parser = make_parser();
  const cxxopts::ParseResult parsed = parser.parse(argc, argv);
  if (parsed.count("help") > 0) {
    fmt::print("{}", parser.help());
    return std::nullopt;
  }
  refuse_unknown(parsed.unmatched());
  return read_options(parsed);
} catch (const Error&) {
  throw;
} catch (const std::exception& error) {  // cxxopts' own types changed their names between versions
  refuse(error.what());
}

}  // namespace zero_inference
