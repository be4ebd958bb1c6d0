// The table of wrong_command_lines_test.cc.
#pragma once

#include <string>
#include <vector>

namespace deepscale::testing {

struct Mistake {
  std::vector<std::string> words;  // behind "deepscale"; "{name}" is one of Files, "{rank}" a good program
  int exit_code;
  std::vector<std::string> answer;  // what it must name
};

// Those that another system takes, or answers differently.
std::vector<Mistake> mistakes_of_this_system();

}  // namespace deepscale::testing
