// Where a monitor writes, and what tells the files of two runs apart. One implementation per platform of the
// latter.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "runtime/monitor/monitor.h"

namespace deepscale {

// OUTPUT/JOB, made where it is not there. Error(kSystem) names it.
std::filesystem::path make_output_folder(const MonitorConfig& config, const std::string& monitor);

std::string name_of_this_host();
std::int64_t pid_of_this_process();

}  // namespace deepscale
