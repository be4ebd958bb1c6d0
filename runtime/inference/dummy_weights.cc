#include "runtime/inference/dummy_weights.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "comm/base/half.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/inference/layer_weights.h"

namespace deepscale {

void write_dummy_weights(const ModelConfig& config, const std::filesystem::path& directory,
                         std::uint64_t seed) {
  std::vector<StoredTensor> tensors;
  for (const NamedShape& tensor : decoder_tensors(config))
    tensors.push_back({tensor.name, "BF16", tensor.shape});
  SafetensorsWriter writer(directory / "model.safetensors", tensors, {{"format", "pt"}});
  std::mt19937_64 random(seed);
  std::vector<std::uint16_t> values;
  for (const StoredTensor& tensor : tensors) {
    const std::int64_t count =
        std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>());
    values.resize(static_cast<std::size_t>(count));
    const bool is_norm = tensor.shape.size() == 1 && tensor.name.find("norm") != std::string::npos;
    const auto scale = static_cast<float>(config.initializer_range);
    // Uniform, of the standard deviation of training's normal distribution: a third of the time to make.
    std::uniform_real_distribution<float> uniform(-1.7320508f * scale, 1.7320508f * scale);
    std::generate(values.begin(), values.end(),
                  [&] { return float_to_bf16(is_norm ? 1.0f : uniform(random)); });
    writer.append(values.data());
  }
  writer.finish();
}

}  // namespace deepscale
