// The variables of a process environment, as a value.
//
// Nothing in DeepScale reads the process environment behind its caller's back: it is read once, with
// of_process(), and passed on. Text is UTF-8 on every platform. Names compare as the platform compares them
// (Windows: any case). A value type; no thread rules beyond the usual. of_process() must not run while
// another thread changes the environment.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace deepscale {

class Environment {
 public:
  struct NameLess {
    using is_transparent = void;
    bool operator()(std::string_view left, std::string_view right) const;
  };
  using Map = std::map<std::string, std::string, NameLess>;

  Environment() = default;
  static Environment of_process();

  std::optional<std::string> get(std::string_view name) const;
  std::string get_or(std::string_view name, std::string_view fallback) const;
  // The value as a whole number; nothing when unset or empty; Error(kInvalidArgument) naming the variable
  // when it is no number.
  std::optional<std::int64_t> get_integer(std::string_view name) const;
  bool has(std::string_view name) const { return variables_.find(name) != variables_.end(); }

  void set(std::string_view name, std::string_view value);
  void set_if_absent(std::string_view name, std::string_view value);
  void remove(std::string_view name);

  const Map& variables() const { return variables_; }

 private:
  Map variables_;
};

}  // namespace deepscale
