// The user's python and its torch, found by running python once; torch itself is not imported.
#pragma once

#include <optional>
#include <string>

#include "comm/base/environment.h"

namespace deepscale {

struct PythonFacts {
  std::string executable;
  std::string version;
  std::string torch_version;  // empty: not installed
};

// Nothing when there is no python, or it does not answer within a few seconds.
std::optional<PythonFacts> read_python_facts(const Environment& environment);

}  // namespace deepscale
