// A JobPlan as text for people: what --dry-run prints.
#pragma once

#include <string>
#include <vector>

#include "comm/base/environment.h"
#include "launcher/job/rank_environment.h"

namespace deepscale {

// The nodes with their ranks, and the command and variables of rank 0. A port of 0 reads as one that is yet
// to be chosen.
std::string describe(const JobPlan& plan, const Environment& job, const Rendezvous& rendezvous);

// A command as one could paste it into a shell.
std::string command_text(const std::string& program, const std::vector<std::string>& arguments);

// {0, 1, 2, 5} -> "0-2,5". `numbers` must be ascending.
std::string ranges_text(const std::vector<int>& numbers);

// "1 rank", "3 ranks".
std::string count_text(std::size_t count, const char* noun);

}  // namespace deepscale
