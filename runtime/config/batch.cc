// The batch triangle: train_batch_size = micro batch size * gradient accumulation steps * data-parallel world
// size.
#include <fmt/core.h>

#include <limits>

#include "comm/base/error.h"
#include "runtime/config/sections.h"

namespace deepscale {
namespace {

Key batch_key(const char* name, std::optional<std::int64_t>& out, std::optional<std::int64_t> from_program,
              BatchKeys& batch) {
  return {name, integer(out, 1), {}, [&out, from_program, &batch] {
            out = from_program;
            batch.any_is_auto = true;
          }};
}

// The product, or nothing when it does not fit.
std::optional<std::int64_t> multiply(std::int64_t a, std::int64_t b) {
  if (a != 0 && b > std::numeric_limits<std::int64_t>::max() / a) return std::nullopt;
  return a * b;
}

std::optional<std::int64_t> multiply(std::int64_t a, std::int64_t b, std::int64_t c) {
  const std::optional<std::int64_t> ab = multiply(a, b);
  return ab ? multiply(*ab, c) : std::nullopt;
}

}  // namespace

std::vector<Key> batch_keys(const ConfigContext& context, BatchKeys& batch) {
  return {
      batch_key("train_batch_size", batch.train_batch_size, std::nullopt, batch),
      batch_key("train_micro_batch_size_per_gpu", batch.micro_batch_size, context.micro_batch_size, batch),
      batch_key("gradient_accumulation_steps", batch.gradient_accumulation_steps,
                context.gradient_accumulation_steps, batch),
  };
}

void apply_batch(const BatchKeys& batch, std::string_view source, const ConfigContext& context,
                 Config& config) {
  std::optional<std::int64_t> train = batch.train_batch_size;
  std::optional<std::int64_t> micro = batch.micro_batch_size;
  std::optional<std::int64_t> accumulation = batch.gradient_accumulation_steps;
  const std::int64_t world = context.data_parallel_world_size;

  if (!train && !micro) {
    micro = context.micro_batch_size;
    if (!micro && batch.any_is_auto) {
      micro = 1;
      config.warnings.push_back(fmt::format(
          "{}: the batch size is \"auto\" and the program gave none; the micro batch size is 1", source));
    }
  }
  if (!train && !micro) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{}: either train_batch_size or train_micro_batch_size_per_gpu needs to be provided",
                    source));
  }
  const char* computed = "";
  if (!accumulation) {
    accumulation = train && micro ? *train / *micro / world : 1;
    computed = " (gradient_accumulation_steps was computed)";
  }
  if (!micro) {
    micro = *train / world / *accumulation;
    computed = " (train_micro_batch_size_per_gpu was computed)";
  }
  const std::optional<std::int64_t> product = multiply(*micro, *accumulation, world);
  if (!train) train = product;
  if (!product || *train != *product || *train == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: train_batch_size is not equal to train_micro_batch_size_per_gpu * "
                            "gradient_accumulation_steps * "
                            "world size: {} != {} * {} * {}{}",
                            source, train.value_or(0), *micro, *accumulation, world, computed));
  }
  config.train_batch_size = *train;
  config.micro_batch_size = *micro;
  config.gradient_accumulation_steps = *accumulation;
}

}  // namespace deepscale
