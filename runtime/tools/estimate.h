// deepscale estimate: the memory that a model's training needs, before it starts.
//
//   deepscale estimate --model DIR --num_gpus N [--num_nodes M] [--dtype bf16] [--json]
//
// For each stage, without offloading and with it: bytes of one rank on its device, and of all ranks of a node
// in its memory. The formula is runtime/zero/memory_estimate.h. Errors are Error; see model_folder.h for what
// a folder must hold.
#pragma once

#include <string>
#include <vector>

namespace deepscale {

// What is printed for these arguments.
std::string estimate_text(const std::vector<std::string>& arguments);

std::string estimate_help();

}  // namespace deepscale
