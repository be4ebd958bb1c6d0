// deepscale zero_to_fp32: a model as transformers loads it, out of a sharded checkpoint.
//
//   deepscale zero_to_fp32 CHECKPOINT_DIR OUTPUT [--tag TAG] [--max_shard_size 5GB]
//
// The fp32 masters of trainable parameters are put together one parameter at a time, so the largest one is
// what it needs of memory; frozen parameters and buffers follow, 16-bit ones as fp32. Needs no rank, device
// or LibTorch. Errors name the file, as runtime/checkpoint does; then OUTPUT keeps what it had.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace deepscale {

struct ConsolidateOptions {
  std::filesystem::path checkpoint;  // the folder that has `latest`
  std::filesystem::path output;      // a folder
  std::string tag;                   // empty: the latest
  std::int64_t max_shard_bytes = 5'000'000'000;
  bool with_frozen_parameters = true;
};

struct Consolidated {
  std::string tag;
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
  int files = 0;
};

Consolidated consolidate(const ConsolidateOptions& options);

// What is printed for these arguments.
std::string consolidate_text(const std::vector<std::string>& arguments);

std::string consolidate_help();

}  // namespace deepscale
