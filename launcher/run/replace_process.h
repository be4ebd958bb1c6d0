// Another program of ours in place of this one. One implementation per platform.
#pragma once

#include <string>
#include <vector>

namespace deepscale {

// Runs the program `name` from the folder of deepscale itself, with our standard streams and environment. On
// Linux this process becomes it; on Windows it waits for it. Returns its exit code. Error(kNotFound) when it
// is not installed beside deepscale, Error(kSystem) when the system refuses.
int run_in_place(const std::string& name, const std::vector<std::string>& arguments);

}  // namespace deepscale
