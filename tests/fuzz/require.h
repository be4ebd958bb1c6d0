// What a fuzz program says when an invariant does not hold; the fuzzer keeps the input then.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace deepscale::testing {

inline void require(bool holds, const char* invariant) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", invariant);
  std::abort();
}

}  // namespace deepscale::testing
