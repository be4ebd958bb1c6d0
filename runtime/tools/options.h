// The command lines of deepscale-model: options with a value, and words without a name.
//
// '-' and '_' in a name are alike; "--name value" and "--name=value" too. Pure. Every mistake is an
// Error(kInvalidArgument) of one sentence, with "did you mean" where a name is near.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace deepscale {

class ToolOptions {
 public:
  struct Known {
    std::vector<std::string> with_value;  // in the form "num_gpus"
    std::vector<std::string> switches;
  };
  ToolOptions(const std::vector<std::string>& words, Known known);

  bool has(const std::string& name) const { return values_.count(name) > 0; }
  std::string text(const std::string& name, const std::string& otherwise) const;
  // A whole number, also 5e8; from `least` up.
  std::int64_t count(const std::string& name, std::int64_t otherwise, std::int64_t least) const;
  // Bytes: "5GB" and "200MB" are decimal as in transformers, "1GiB" binary, "1000" bytes.
  std::int64_t bytes(const std::string& name, std::int64_t otherwise) const;
  const std::vector<std::string>& words() const { return words_; }

 private:
  std::string folded(const std::string& word, const Known& known) const;

  std::map<std::string, std::string> values_;
  std::vector<std::string> words_;
};

}  // namespace deepscale
