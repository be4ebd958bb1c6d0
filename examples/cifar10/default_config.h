// The text of ds_config.json in this folder, built into the program.
#pragma once

#include <string_view>

namespace cifar10 {

std::string_view default_config();

}  // namespace cifar10
