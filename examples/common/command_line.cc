#include "examples/common/command_line.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cxxopts.hpp>

#include "comm/base/error.h"
#include "comm/base/suggest.h"

namespace examples {

using deepscale::DType;
using deepscale::Error;
using deepscale::ErrorCode;

CommandLine::CommandLine(std::string program, std::string description, std::vector<Option> options)
    : program_(std::move(program)), description_(std::move(description)), options_(std::move(options)) {
  options_.push_back({"deepscale", "", "accepted: DeepScale always trains"});
  options_.push_back({"deepspeed", "", "the same as --deepscale"});
  options_.push_back({"local_rank", "N", "accepted and ignored: a rank reads its environment"});
  options_.push_back({"help", "", "print this"});
}

void CommandLine::refuse(const std::string& message) const {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} ({} --help lists the options)", message, program_));
}

bool CommandLine::parse(int argc, const char* const* argv) try {
  cxxopts::Options parser(program_, description_);
  parser.custom_help("[options]").set_width(100).allow_unrecognised_options();
  for (const Option& option : options_) {
    const std::string names = option.name == "help" ? "h,help" : option.name;
    if (option.value.empty()) {
      parser.add_options()(names, option.help);
    } else {
      const auto text = cxxopts::value<std::string>();
      if (!option.fallback.empty()) text->default_value(option.fallback);
      parser.add_options()(names, option.help, text, option.value);
    }
  }
  const cxxopts::ParseResult parsed = parser.parse(argc, argv);
  if (parsed.count("help") > 0) {
    fmt::print("{}", parser.help());
    return false;
  }
  refuse_unknown(parsed.unmatched());
  // Not cxxopts' own vectors: they part a text at its commas.
  for (const cxxopts::KeyValue& given : parsed.arguments()) given_[given.key()].push_back(given.value());
  for (const Option& option : options_) {
    if (!option.fallback.empty() && !has(option.name)) given_[option.name] = {option.fallback};
  }
  return true;
} catch (const Error&) {
  throw;
} catch (const std::exception& error) {  // cxxopts' own types changed their names between versions
  refuse(error.what());
}

void CommandLine::refuse_unknown(const std::vector<std::string>& unknown) const {
  if (unknown.empty()) return;
  const std::string name = unknown.front().substr(0, unknown.front().find('='));
  std::vector<std::string> known;
  for (const Option& option : options_) known.push_back("--" + option.name);
  refuse(fmt::format("there is no option \"{}\".{}", name, deepscale::did_you_mean(name, known)));
}

bool CommandLine::has(const std::string& name) const {
  return given_.count(name) > 0;
}

std::string CommandLine::text(const std::string& name) const {
  const auto found = given_.find(name);
  return found == given_.end() ? "" : found->second.back();
}

std::vector<std::string> CommandLine::texts(const std::string& name) const {
  const auto found = given_.find(name);
  return found == given_.end() ? std::vector<std::string>() : found->second;
}

std::string CommandLine::required(const std::string& name) const {
  if (!text(name).empty()) return text(name);
  const auto option = std::find_if(options_.begin(), options_.end(),
                                   [&](const Option& candidate) { return candidate.name == name; });
  refuse(fmt::format("--{} is missing: {}", name, option->help));
}

std::int64_t CommandLine::integer(const std::string& name, std::int64_t least, std::int64_t most) const {
  const std::string given = text(name);
  std::int64_t number = 0;
  const auto [end, failure] = std::from_chars(given.data(), given.data() + given.size(), number);
  if (failure != std::errc() || end != given.data() + given.size() || number < least || number > most) {
    refuse(fmt::format("--{}: expected a whole number from {} to {}, got \"{}\"", name, least, most, given));
  }
  return number;
}

double CommandLine::real(const std::string& name, double least, double most) const {
  const std::string given = text(name);
  char* end = nullptr;
  const double number = std::strtod(given.c_str(), &end);
  if (given.empty() || *end != '\0' || !(number >= least && number <= most)) {
    refuse(fmt::format("--{}: expected a number from {} to {}, got \"{}\"", name, least, most, given));
  }
  return number;
}

DType CommandLine::dtype(const std::string& name) const {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    if (text(name) == deepscale::dtype_name(dtype)) return dtype;
  }
  refuse(fmt::format("--{}: expected fp32, bf16 or fp16, got \"{}\"", name, text(name)));
}

std::string CommandLine::choice(const std::string& name, const std::vector<std::string>& names) const {
  const std::string given = text(name);
  if (std::find(names.begin(), names.end(), given) != names.end()) return given;
  refuse(fmt::format("--{}: expected {} or {}, got \"{}\"", name,
                     fmt::join(names.begin(), names.end() - 1, ", "), names.back(), given));
}

}  // namespace examples
