// A value of a ds_config.json together with where it stands, and tables of keys that say how a section is
// read.
//
//   value.read_section({{"stage", integer(zero.stage, 0, 3)},
//                       {"overlap_comm", boolean(zero.overlap_comm)},
//                       {"round_robin_gradients", accepted(ValueType::kBool)},
//                       {"zero_quantized_weights", off_only("quantized weights")}});
//
// Rules that hold for every key: null is the same as not there; "auto" takes the program's answer, else the
// default; a key under two of its names, or one that is not in the table, is an error. Internal to
// runtime/config; not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/config/config.h"

namespace deepscale {

class Value;

enum class ValueType { kBool, kInteger, kNumber, kText, kObject, kAny };

// What all values of one file share.
struct Document {
  std::string source;
  const ConfigContext& context;
  std::vector<std::string>& warnings;
};

using ValueReader = std::function<void(const Value&)>;

struct Key {
  std::string name;
  ValueReader read;
  std::vector<std::string> aliases = {};
  std::function<void()> on_auto = {};  // empty: "auto" is the default
};

// Both the tree and the document outlive the value.
class Value {
 public:
  Value(const nlohmann::ordered_json& json, std::string path, Document& document)
      : json_(json), path_(std::move(path)), document_(document) {}

  const ConfigContext& context() const { return document_.context; }

  bool is(ValueType type) const;
  bool is_null() const;
  bool is_auto() const;
  bool is_empty() const;  // {} or []

  // Error(kInvalidArgument) for another type or outside the range.
  void expect(ValueType type) const;
  bool as_bool() const;
  std::int64_t as_integer(std::int64_t least, std::int64_t most) const;
  double as_number(double least, double most) const;
  std::string as_text() const;
  std::vector<Value> as_list() const;

  // A member of an object; nothing where it is not there, null or "auto".
  std::optional<Value> find(const std::string& name) const;
  Value member_or_empty(const std::string& name) const;  // an empty object in those cases
  bool has(const std::string& name) const;               // there and not null, "auto" included
  // Reads every member by its key; Error(kInvalidArgument) for one that is in no key, or this is not an
  // object.
  void read_section(const std::vector<Key>& keys) const;
  // The same, but a member that is in no key is a warning, unless ConfigContext::strict.
  void read_top_level(const std::vector<Key>& keys) const;

  [[noreturn]] void fail(const std::string& message) const;  // Error(kInvalidArgument)
  // Error(kUnsupported): not in this version.
  [[noreturn]] void not_here(const std::string& feature,
                             const std::string& remedy = "remove the key or switch it off") const;
  void warn(const std::string& message) const;
  std::string shown() const;  // the value as the file has it, shortened

 private:
  Value member(const std::string& name, const nlohmann::ordered_json& json) const;
  void read_members(const std::vector<Key>& keys,
                    const std::function<void(const Value&, const std::string&)>& on_unknown) const;

  const nlohmann::ordered_json& json_;
  std::string path_;
  Document& document_;
};

// Readers. Those that take a reference write to it, and it must outlive the reader.
inline constexpr std::int64_t kAnyInteger = std::numeric_limits<std::int64_t>::max();
inline constexpr double kAnyNumber = std::numeric_limits<double>::max();
inline constexpr double kAboveZero = std::numeric_limits<double>::min();

ValueReader boolean(bool& out);
ValueReader text(std::string& out);

template <typename T>  // int, std::int64_t, or an optional of them
ValueReader integer(T& out, std::int64_t least, std::int64_t most = kAnyInteger) {
  return [&out, least, most](const Value& value) { out = static_cast<T>(value.as_integer(least, most)); };
}

template <typename T>  // double, or an optional of it
ValueReader number(T& out, double least, double most = kAnyNumber) {
  return [&out, least, most](const Value& value) { out = value.as_number(least, most); };
}

// One of several names, in any case of letters.
std::size_t choose(const Value& value, const std::vector<std::string>& names);

template <typename T>
ValueReader choice(T& out, std::vector<std::pair<std::string, T>> choices) {
  return [&out, choices = std::move(choices)](const Value& value) {
    std::vector<std::string> names;
    for (const auto& [name, chosen] : choices) names.push_back(name);
    out = choices[choose(value, names)].second;
  };
}

// A key that has no effect here; its type is still checked.
ValueReader accepted(ValueType type);
// A switch that must be false, since the feature is not in this version.
ValueReader off_only(std::string feature);
// A switch for something that only observes the run: true is a warning.
ValueReader off_or_warn(std::string feature);

// For Key::on_auto: what the program said, if it did.
template <typename T, typename Answer>
std::function<void()> answer(T& out, std::optional<Answer> from_program) {
  return [&out, from_program] {
    if (from_program) out = *from_program;
  };
}

}  // namespace deepscale
