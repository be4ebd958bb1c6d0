#include "examples/cifar10/options.h"

#include <fmt/core.h>

#include <charconv>
#include <cstdio>
#include <cxxopts.hpp>
#include <limits>
#include <vector>

#include "comm/base/error.h"
#include "comm/base/suggest.h"

namespace cifar10 {

using deepscale::DType;
using deepscale::Error;
using deepscale::ErrorCode;

namespace {

struct Declaration {
  std::string name;
  std::string value;  // what stands for it in the help; empty: a flag
  std::string help;
  std::string fallback;
};

const std::vector<Declaration>& declarations() {
  static const std::vector<Declaration> all = {
      {"data_dir", "DIR", "folder of a data set in CIFAR-10's binary format", "data/digits"},
      {"deepscale", "", "accepted, as the tutorial has it: DeepScale always trains", ""},
      {"deepscale_config", "FILE", "a ds_config.json; without it, that of the tutorial", ""},
      {"dtype", "TYPE", "fp32, bf16 or fp16; by default what the configuration says, or fp16", ""},
      {"stage", "N", "ZeRO stage, 0 to 3; by default what the configuration says, or 0", ""},
      {"batch_size", "N", "images of one rank in one step; by default what the configuration says, or 16",
       ""},
      {"epochs", "N", "passes over the training images", "30"},
      {"steps_limit", "N", "end training after that many steps; 0: never", "0"},
      {"log_interval", "N", "steps between two lines of progress", "100"},
      {"seed", "N", "of the first weights and of the order of images", "0"},
      {"local_rank", "N", "accepted and ignored: a rank reads its environment", ""},
      {"deepspeed", "", "the same as --deepscale", ""},
      {"deepspeed_config", "FILE", "the same as --deepscale_config", ""},
      {"help", "", "print this", ""},
  };
  return all;
}

cxxopts::Options make_parser() {
  cxxopts::Options parser(
      "cifar10",
      "Trains the network of the CIFAR10 tutorial with DeepScale, and tells its accuracy.\n"
      "Start it alone, or on several ranks: deepscale launch --num_gpus 2 cifar10 --deepscale");
  parser.custom_help("[options]").set_width(100).allow_unrecognised_options();
  for (const Declaration& option : declarations()) {
    const std::string names = option.name == "help" ? "h,help" : option.name;
    if (option.value.empty()) {
      parser.add_options()(names, option.help);
    } else {
      const auto text = cxxopts::value<std::string>();
      if (!option.fallback.empty()) text->default_value(option.fallback);
      parser.add_options()(names, option.help, text, option.value);
    }
  }
  return parser;
}

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message + " (cifar10 --help lists the options)");
}

// What was given, or stands in for it, as text.
class GivenOptions {
 public:
  explicit GivenOptions(const cxxopts::ParseResult& parsed) : parsed_(parsed) {}

  bool has(const std::string& name) const { return parsed_.count(name) > 0; }
  std::string text(const std::string& name) const { return parsed_[name].as<std::string>(); }

  template <typename Number>
  Number number(const std::string& name, Number least,
                Number most = std::numeric_limits<Number>::max()) const {
    const std::string given = text(name);
    Number number{};
    const auto [end, failure] = std::from_chars(given.data(), given.data() + given.size(), number);
    if (failure != std::errc() || end != given.data() + given.size() || number < least || number > most) {
      refuse(
          fmt::format("--{}: expected a whole number from {} to {}, got \"{}\"", name, least, most, given));
    }
    return number;
  }

  DType training_dtype() const {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
      if (text("dtype") == deepscale::dtype_name(dtype)) return dtype;
    }
    refuse(fmt::format("--dtype: expected fp32, bf16 or fp16, got \"{}\"", text("dtype")));
  }

 private:
  const cxxopts::ParseResult& parsed_;
};

void refuse_unknown(const std::vector<std::string>& unknown) {
  if (unknown.empty()) return;
  const std::string name = unknown.front().substr(0, unknown.front().find('='));
  std::vector<std::string> known;
  for (const Declaration& option : declarations()) known.push_back("--" + option.name);
  refuse(fmt::format("there is no option \"{}\".{}", name, deepscale::did_you_mean(name, known)));
}

Options read_options(const GivenOptions& given) {
  Options options;
  options.data_dir = given.text("data_dir");
  for (const char* name : {"deepspeed_config", "deepscale_config"}) {
    if (given.has(name)) options.config_path = given.text(name);
  }
  if (given.has("dtype")) options.dtype = given.training_dtype();
  if (given.has("stage")) options.stage = given.number<int>("stage", 0, 3);
  if (given.has("batch_size")) options.batch_size = given.number<std::int64_t>("batch_size", 1, 1 << 20);
  options.epochs = given.number<int>("epochs", 1, 1'000'000);
  options.steps_limit = given.number<std::int64_t>("steps_limit", 0);
  options.log_interval = given.number<std::int64_t>("log_interval", 1);
  options.seed = given.number<std::uint64_t>("seed", 0);
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
  return read_options(GivenOptions(parsed));
} catch (const Error&) {
  throw;
} catch (const std::exception& error) {  // cxxopts' own types changed their names between versions
  refuse(error.what());
}

}  // namespace cifar10
