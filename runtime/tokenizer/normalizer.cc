#include "runtime/tokenizer/pattern.h"
#include "runtime/tokenizer/step_fields.h"
#include "runtime/tokenizer/steps.h"
#include "runtime/tokenizer/unicode.h"

namespace deepscale {
namespace {

struct BertOptions {
  bool cleans_text, handles_chinese, strips_accents, lowers;
};

std::u32string clean(const std::u32string& text) {
  std::u32string result;
  for (const char32_t point : text) {
    const bool is_space = is_white_space(point);
    const bool is_control = point != '\t' && point != '\n' && point != '\r' && is_other(point);
    if (point == 0 || point == 0xFFFD || is_control) continue;
    result += is_space ? U' ' : point;
  }
  return result;
}

std::u32string with_spaces_around_chinese(const std::u32string& text) {
  std::u32string result;
  for (const char32_t point : text) {
    if (is_chinese(point)) {
      result.append({U' ', point, U' '});
    } else {
      result += point;
    }
  }
  return result;
}

std::u32string decompose(const std::u32string& text) {
  std::u32string result;
  for (const char32_t point : text) append_decomposed(result, point);
  return result;
}

std::u32string without_accents(const std::u32string& text) {
  std::u32string result;
  for (const char32_t point : text) {
    if (!is_nonspacing_mark(point)) result += point;
  }
  return result;
}

std::u32string lower(const std::u32string& text) {
  std::u32string result;
  for (const char32_t point : text) {
    if (point == 0x130) {  // the one letter whose lower case is two
      result.append({U'i', 0x307});
    } else {
      result += to_lower(point);
    }
  }
  return result;
}

Normalizer of_points(std::u32string (*step)(const std::u32string&)) {
  return [step](const std::string& text) { return encode_utf8(step(decode_utf8(text))); };
}

Normalizer make_bert(const nlohmann::json& json, const std::string& where) {
  const ConfigFields fields(json, where);
  const bool lowers = fields.boolean("lowercase", true);
  const BertOptions options{.cleans_text = fields.boolean("clean_text", true),
                            .handles_chinese = fields.boolean("handle_chinese_chars", true),
                            .strips_accents = fields.boolean("strip_accents", lowers),
                            .lowers = lowers};
  return [options](const std::string& text) {
    std::u32string points = decode_utf8(text);
    if (options.cleans_text) points = clean(points);
    if (options.handles_chinese) points = with_spaces_around_chinese(points);
    if (options.strips_accents) points = without_accents(decompose(points));
    if (options.lowers) points = lower(points);
    return encode_utf8(points);
  };
}

Normalizer make_lowercase(const nlohmann::json&, const std::string&) {
  return of_points(&lower);
}

Normalizer make_strip_accents(const nlohmann::json&, const std::string&) {
  return of_points(&without_accents);
}

Normalizer make_nfd(const nlohmann::json&, const std::string&) {
  return of_points(&decompose);
}

Normalizer make_prepend(const nlohmann::json& json, const std::string& where) {
  const std::string prefix = ConfigFields(json, where).text("prepend", "");
  return [prefix](const std::string& text) { return text.empty() ? text : prefix + text; };
}

Normalizer make_replace(const nlohmann::json& json, const std::string& where) {
  bool is_regex = false;
  const std::string pattern_text = read_pattern_text(json, where, is_regex);
  const std::string content = ConfigFields(json, where).text("content", "");
  if (!is_regex) {
    return
        [pattern_text, content](const std::string& text) { return replace_all(text, pattern_text, content); };
  }
  return [pattern = Pattern(pattern_text), content](const std::string& text) {
    const std::u32string points = decode_utf8(text);
    std::string result;
    std::size_t at = 0;
    for (const auto& [begin, end] : pattern.find_all(points)) {
      result += encode_utf8(std::u32string_view(points).substr(at, begin - at)) + content;
      at = end;
    }
    return result + encode_utf8(std::u32string_view(points).substr(at));
  };
}

Normalizer make_one(const nlohmann::json& json, const std::string& where);

Normalizer make_sequence(const nlohmann::json& json, const std::string& where) {
  const std::vector<Normalizer> steps = make_steps<Normalizer>(json, "normalizers", where, &make_one);
  return [steps](std::string text) {
    for (const Normalizer& step : steps) text = step(std::move(text));
    return text;
  };
}

Normalizer make_one(const nlohmann::json& json, const std::string& where) {
  static const StepMakers<Normalizer> makers = {
      {"BertNormalizer", &make_bert},       {"Lowercase", &make_lowercase}, {"NFD", &make_nfd},
      {"Prepend", &make_prepend},           {"Replace", &make_replace},     {"Sequence", &make_sequence},
      {"StripAccents", &make_strip_accents}};
  return make_step(json, where, makers);
}

}  // namespace

Normalizer make_normalizer(const nlohmann::json& json, const std::string& where) {
  if (json.is_null()) return [](std::string text) { return text; };
  return make_one(json, where);
}

}  // namespace deepscale
