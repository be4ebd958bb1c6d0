#include "comm/base/environment.h"

#include <unistd.h>

namespace deepscale {

bool Environment::NameLess::operator()(std::string_view left, std::string_view right) const {
  return left < right;
}

Environment Environment::of_process() {
  Environment environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const auto equals = text.find('=');
    if (equals != std::string_view::npos) environment.set(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

}  // namespace deepscale
