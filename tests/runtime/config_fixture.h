// What the tests of runtime/config share.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>

#include "comm/base/error.h"
#include "runtime/config/config.h"
#include "tests/refusal.h"

namespace deepscale::testing_config {

constexpr std::string_view kSource = "ds_config.json";

inline Config parse(std::string_view text, const ConfigContext& context = {}) {
  return parse_config(text, kSource, context);
}

// `members` inside a file that is otherwise complete.
inline Config parse_members(const std::string& members, const ConfigContext& context = {}) {
  return parse(R"({"train_batch_size": 1, )" + members + "}", context);
}

using testing::refusal_of;

inline std::string message_of(std::string_view text, const ConfigContext& context = {}) {
  return refusal_of([&] { parse(text, context); }).message;
}

inline std::string message_of_members(const std::string& members, const ConfigContext& context = {}) {
  return refusal_of([&] { parse_members(members, context); }).message;
}

}  // namespace deepscale::testing_config
