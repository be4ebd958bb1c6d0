#include "runtime/tools/estimate.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "comm/base/error.h"
#include "runtime/checkpoint/model_folder.h"
#include "runtime/tools/options.h"
#include "runtime/zero/memory_estimate.h"

namespace deepscale {
namespace {

struct Request {
  std::string model;
  std::int64_t ranks_per_node;
  std::int64_t nodes;
  DType dtype;
  std::int64_t max_live_numel;
  std::int64_t accumulation_steps;
  bool as_json;
};

Request read_request(const std::vector<std::string>& arguments) {
  const ToolOptions options(arguments,
                            {.with_value = {"model", "num_gpus", "num_nodes", "dtype", "max_live_parameters",
                                            "stage3_max_live_parameters", "gradient_accumulation_steps"},
                             .switches = {"json"}});
  std::string model = options.text("model", "");
  if (model.empty() && options.words().size() == 1) model = options.words().front();
  if (model.empty() || options.words().size() > 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "which model? Usage: deepscale estimate --model FOLDER --num_gpus N; see deepscale estimate "
                "--help.");
  }
  constexpr std::int64_t kMostRanks = 1 << 20;
  const auto count_of_ranks = [&](const char* name) {
    const std::int64_t count = options.count(name, 1, 1);
    if (count <= kMostRanks) return count;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--{}: {} is more than {}.", name, count, kMostRanks));
  };
  const std::int64_t live = options.count("max_live_parameters", 1'000'000'000, 0);
  return {.model = model,
          .ranks_per_node = count_of_ranks("num_gpus"),
          .nodes = count_of_ranks("num_nodes"),
          .dtype = parse_dtype(options.text("dtype", "bf16")),
          .max_live_numel = options.count("stage3_max_live_parameters", live, 0),
          .accumulation_steps = options.count("gradient_accumulation_steps", 1, 1),
          .as_json = options.has("json")};
}

struct Row {
  int stage;
  const char* offload;
  PlacedBytes bytes;
};

std::vector<Row> rows_of(const Request& request, const ModelSize& size) {
  std::vector<Row> rows;
  for (int stage = 0; stage <= 3; ++stage) {
    const ModelStateOptions options = {.parameter_numel = size.numel(),
                                       .stage = stage,
                                       .world_size = static_cast<int>(request.ranks_per_node * request.nodes),
                                       .dtype = request.dtype,
                                       .gradient_dtype = {},
                                       .accumulates_gradients = request.accumulation_steps > 1};
    const PlacementOptions none = {.max_live_numel = request.max_live_numel,
                                   .largest_layer_numel = size.largest().numel};
    PlacementOptions optimizer = none;
    optimizer.offload_optimizer = true;
    PlacementOptions both = optimizer;
    both.offload_parameters = true;
    rows.push_back({stage, "none", place_model_states(options, none)});
    if (stage >= 1) rows.push_back({stage, "optimizer", place_model_states(options, optimizer)});
    if (stage == 3) rows.push_back({stage, "optimizer, param", place_model_states(options, both)});
  }
  return rows;
}

std::string gigabytes(std::int64_t bytes) {
  return fmt::format("{:.2f} GB", static_cast<double>(bytes) / 1e9);
}

std::string with_commas(std::int64_t number) {
  std::string digits = std::to_string(number);
  for (auto place = static_cast<std::ptrdiff_t>(digits.size()) - 3; place > 0; place -= 3)
    digits.insert(static_cast<std::size_t>(place), ",");
  return digits;
}

std::string as_text(const Request& request, const ModelSize& size, const std::vector<Row>& rows) {
  const ModelLayer largest = size.largest();
  std::string text = fmt::format(
      "{} parameters, the largest layer {} ({}), from {}\n"
      "{} node{}, {} rank{} on each, {}, Adam. Model states only: activations and working memory come on "
      "top.\n\n"
      "stage  offload            device of a rank   memory of a node\n",
      with_commas(size.numel()), with_commas(largest.numel),
      largest.name.empty() ? "the model" : largest.name, size.source.string(), request.nodes,
      request.nodes == 1 ? "" : "s", request.ranks_per_node, request.ranks_per_node == 1 ? "" : "s",
      dtype_name(request.dtype));
  for (const Row& row : rows) {
    text += fmt::format("{:<5}  {:<17}  {:>16}   {:>16}\n", row.stage, row.offload,
                        gigabytes(row.bytes.device), gigabytes(row.bytes.host * request.ranks_per_node));
  }
  return text;
}

std::string as_json(const Request& request, const ModelSize& size, const std::vector<Row>& rows) {
  nlohmann::ordered_json json = {{"parameters", size.numel()},     {"largest_layer", size.largest().numel},
                                 {"source", size.source.string()}, {"num_gpus", request.ranks_per_node},
                                 {"num_nodes", request.nodes},     {"dtype", dtype_name(request.dtype)}};
  for (const Row& row : rows) {
    json["estimates"].push_back({{"stage", row.stage},
                                 {"offload", row.offload},
                                 {"device_bytes_of_a_rank", row.bytes.device},
                                 {"host_bytes_of_a_node", row.bytes.host * request.ranks_per_node}});
  }
  return json.dump(1) + "\n";
}

}  // namespace

std::string estimate_text(const std::vector<std::string>& arguments) {
  const Request request = read_request(arguments);
  const ModelSize size = measure_model_folder(request.model);
  const std::vector<Row> rows = rows_of(request, size);
  return request.as_json ? as_json(request, size, rows) : as_text(request, size, rows);
}

std::string estimate_help() {
  return "Usage: deepscale estimate --model FOLDER [--num_gpus N] [--num_nodes M]\n\n"
         "The memory for parameters, gradients and Adam's states at every ZeRO stage, with and without\n"
         "offloading. FOLDER is a Hugging Face model: its safetensors files, or its config.json alone.\n\n"
         "  --num_gpus N              ranks on each node (1)\n"
         "  --num_nodes M             nodes (1)\n"
         "  --dtype TYPE              bf16, fp16 or fp32 (bf16)\n"
         "  --max_live_parameters N   as stage3_max_live_parameters in ds_config.json (1e9)\n"
         "  --gradient_accumulation_steps N   micro batches a step, for which stage 1 keeps whole gradients\n"
         "                            where they are several (1)\n"
         "  --json                    for programs, in bytes\n";
}

}  // namespace deepscale
