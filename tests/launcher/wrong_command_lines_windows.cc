#include "tests/launcher/wrong_command_lines.h"

namespace deepscale::testing {

std::vector<Mistake> mistakes_of_this_system() {
  return {{{"{plain}"}, 126, {"plain is not executable", "end in .exe"}},
          {{"C:\\no\\such"}, 127, {"program not found: C:\\no\\such", "Check the path"}},
          {{"-q", "{no_program.exe}"}, 126, {"no_program.exe", "no program for this machine"}}};
}

}  // namespace deepscale::testing
