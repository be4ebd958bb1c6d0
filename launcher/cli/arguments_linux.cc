#include <string_view>

#include "launcher/cli/arguments.h"

namespace deepscale {

std::vector<std::string> command_arguments(int argc, char** argv) {
  if (argc == 0) return {};
  std::vector<std::string> words(argv + 1, argv + argc);
  std::string_view name = argv[0];
  name.remove_prefix(name.rfind('/') + 1);
  if (name == "ds_report") words.insert(words.begin(), "report");
  return words;
}

}  // namespace deepscale
