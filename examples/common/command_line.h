// The options of an example, from a table of them.
//
//   CommandLine line("sft", "Fine-tunes a language model.", {{"lora_dim", "N", "rank", "0"}});
//   if (!line.parse(argc, argv)) return;  // help was printed
//   const std::int64_t rank = line.integer("lora_dim", 0, 4096);
//
// --deepscale, --deepspeed, --local_rank and --help are there for every example. A mistake is
// Error(kInvalidArgument) that names the option and what it takes. One thread.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "comm/base/dtype.h"

namespace examples {

class CommandLine {
 public:
  struct Option {
    std::string name;
    std::string value;  // what stands for it in the help; empty: a flag
    std::string help;
    std::string fallback = "";  // without one, the option may be absent
  };

  CommandLine(std::string program, std::string description, std::vector<Option> options);

  // False where help was asked for, and printed.
  bool parse(int argc, const char* const* argv);

  bool has(const std::string& name) const;  // given, or has a fallback
  bool flag(const std::string& name) const { return given_.count(name) > 0; }
  std::string text(const std::string& name) const;                // "" where it is absent
  std::vector<std::string> texts(const std::string& name) const;  // of an option that may be repeated
  std::string required(const std::string& name) const;            // an error where it is absent
  std::int64_t integer(const std::string& name, std::int64_t least,
                       std::int64_t most = std::numeric_limits<std::int64_t>::max()) const;
  double real(const std::string& name, double least, double most) const;
  deepscale::DType dtype(const std::string& name) const;  // fp32, bf16 or fp16
  // One of these names, of which there are two at least.
  std::string choice(const std::string& name, const std::vector<std::string>& names) const;

  [[noreturn]] void refuse(const std::string& message) const;

 private:
  void refuse_unknown(const std::vector<std::string>& unknown) const;

  std::string program_;
  std::string description_;
  std::vector<Option> options_;
  std::map<std::string, std::vector<std::string>> given_;  // a flag: empty texts
};

}  // namespace examples
