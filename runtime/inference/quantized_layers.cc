#include "runtime/checkpoint/durable_file.h"
#include "runtime/inference/quantize.h"
#include "runtime/inference/streamed_source.h"

namespace deepscale {

StreamedLayers quantized_layers_in(const ModelWeights& weights, int bits, std::int64_t group_size,
                                   const std::filesystem::path& path) {
  StreamedLayers result;
  result.files.push_back(path);
  std::int64_t end = 0;
  const auto place = [&](std::int64_t bytes) {
    end += bytes;
    return FilePart{0, end - bytes, bytes};
  };
  for (std::int64_t layer = 0; layer < weights.config().layers; ++layer) {
    const auto places = weights.layer_places(layer);
    auto& matrices = result.layers.emplace_back();
    for (int i = 0; i < kLayerMatrices; ++i) {
      if (places[i].matrix.rows == 0) continue;
      matrices[i].shape = quantized_shape(places[i].matrix, bits, group_size);
      matrices[i].scales = place(scale_bytes(matrices[i].shape));
      matrices[i].data = place(matrix_bytes(matrices[i].shape));
    }
  }
  return result;
}

StreamedLayers write_quantized_layers(const ModelWeights& weights, int bits, std::int64_t group_size,
                                      const std::filesystem::path& path, int threads) {
  DurableFile file(path);
  for (std::int64_t layer = 0; layer < weights.config().layers; ++layer) {
    for (const MatrixPlace& place : weights.layer_places(layer)) {
      if (place.matrix.rows == 0) continue;
      const QuantizedMatrix quantized(place.matrix, bits, group_size, threads);
      const WeightMatrix& view = quantized.view();
      file.write(view.scales, static_cast<std::size_t>(scale_bytes(view)));
      file.write(view.data, static_cast<std::size_t>(matrix_bytes(view)));
    }
  }
  file.finish();
  return quantized_layers_in(weights, bits, group_size, path);
}

}  // namespace deepscale
