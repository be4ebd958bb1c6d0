// The words of the command line in UTF-8, without the program's own name. One implementation per platform.
#pragma once

#include <string>
#include <vector>

namespace deepscale {

// A program that was called as ds_report gets "report" as its first word.
std::vector<std::string> command_arguments(int argc, char** argv);

}  // namespace deepscale
