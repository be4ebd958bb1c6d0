// What a mistake must lead to: an Error.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "comm/base/error.h"

namespace deepscale::testing {

struct Refusal {
  ErrorCode code;
  std::string message;
};

// The Error of `action`; a test failure when there is none.
template <typename Action>
Refusal refusal_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "was accepted";
  return {ErrorCode::kInternal, ""};
}

}  // namespace deepscale::testing
