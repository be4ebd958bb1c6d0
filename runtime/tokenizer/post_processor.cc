#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "runtime/tokenizer/step_fields.h"
#include "runtime/tokenizer/steps.h"

namespace deepscale {
namespace {

using Tokens = std::vector<std::int64_t>;

PostProcessor around(Tokens before, Tokens after) {
  return [before = std::move(before), after = std::move(after)](const Tokens& tokens) {
    Tokens all = before;
    all.insert(all.end(), tokens.begin(), tokens.end());
    all.insert(all.end(), after.begin(), after.end());
    return all;
  };
}

Tokens ids_of(const nlohmann::json& json, const std::string& name, const std::string& where) {
  const ConfigFields special = ConfigFields(json, where).section("special_tokens").section(name);
  const Tokens ids = special.integer_or_list("ids");
  if (ids.empty()) special.fail("ids", "missing");
  return ids;
}

// The tokens before and after the one text of "single".
PostProcessor make_template(const nlohmann::json& json, const std::string& where) {
  const ConfigFields fields(json, where);
  const auto single = json.find("single");
  if (single == json.end() || !single->is_array()) fields.fail("single", "expected a list");
  Tokens before, after;
  bool has_text = false;
  for (const nlohmann::json& part : *single) {
    const bool is_text = part.is_object() && part.contains("Sequence");
    const bool is_token = part.is_object() && part.contains("SpecialToken");
    if (is_text == is_token || (is_text && has_text))
      fields.fail("single", "expected one text among special tokens");
    if (is_text) {
      has_text = true;
      continue;
    }
    const std::string name = ConfigFields(part, where + ": single").section("SpecialToken").text("id", "");
    const Tokens ids = ids_of(json, name, where);
    Tokens& side = has_text ? after : before;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (!has_text) fields.fail("single", "has no place for the text");
  return around(std::move(before), std::move(after));
}

// ["[SEP]", 102] under this key.
std::int64_t named_token(const nlohmann::json& json, const char* key, const std::string& where) {
  const auto token = json.find(key);
  const bool is_pair =
      token != json.end() && token->is_array() && token->size() == 2 && (*token)[1].is_number_integer();
  if (!is_pair) ConfigFields(json, where).fail(key, "expected a token and its number");
  return (*token)[1].get<std::int64_t>();
}

PostProcessor make_bert(const nlohmann::json& json, const std::string& where) {
  return around({named_token(json, "cls", where)}, {named_token(json, "sep", where)});
}

PostProcessor make_byte_level(const nlohmann::json&, const std::string&) {
  return around({}, {});  // it changes offsets alone
}

PostProcessor make_one(const nlohmann::json& json, const std::string& where);

PostProcessor make_sequence(const nlohmann::json& json, const std::string& where) {
  return [steps = make_steps<PostProcessor>(json, "processors", where, &make_one)](Tokens tokens) {
    for (const PostProcessor& step : steps) tokens = step(std::move(tokens));
    return tokens;
  };
}

PostProcessor make_one(const nlohmann::json& json, const std::string& where) {
  static const StepMakers<PostProcessor> makers = {{"BertProcessing", &make_bert},
                                                   {"ByteLevel", &make_byte_level},
                                                   {"RobertaProcessing", &make_bert},
                                                   {"Sequence", &make_sequence},
                                                   {"TemplateProcessing", &make_template}};
  return make_step(json, where, makers);
}

}  // namespace

PostProcessor make_post_processor(const nlohmann::json& json, const std::string& where) {
  return json.is_null() ? around({}, {}) : make_one(json, where);
}

}  // namespace deepscale
