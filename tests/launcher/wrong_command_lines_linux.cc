#include "tests/launcher/wrong_command_lines.h"

namespace deepscale::testing {

std::vector<Mistake> mistakes_of_this_system() {
  return {{{"{plain}"}, 126, {"plain is not executable", "chmod +x"}},
          {{"-q", "{no_interpreter}"}, 127, {"no_interpreter", "the interpreter in its first line"}},
          {{"-q", "{no_program}"}, 126, {"no_program", "no program for this machine"}}};
}

}  // namespace deepscale::testing
