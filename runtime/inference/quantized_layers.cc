#include "runtime/checkpoint/durable_file.h"
#include "runtime/inference/quantize.h"
#include "runtime/inference/streamed_source.h"

namespace deepscale {

StreamedLayers write_quantized_layers(const ModelWeights& weights, int bits, std::int64_t group_size,
                                      const std::filesystem::path& path, int threads) {
  StreamedLayers result;
  result.files.push_back(path);
  DurableFile file(path);
  std::int64_t written = 0;
  const auto append = [&](const void* data, std::int64_t bytes) {
    file.write(data, static_cast<std::size_t>(bytes));
    written += bytes;
    return FilePart{0, written - bytes, bytes};
  };
  for (std::int64_t layer = 0; layer < weights.config().layers; ++layer) {
    const auto places = weights.layer_places(layer);
    auto& matrices = result.layers.emplace_back();
    for (int i = 0; i < kLayerMatrices; ++i) {
      if (places[i].matrix.rows == 0) continue;
      const QuantizedMatrix quantized(places[i].matrix, bits, group_size, threads);
      const WeightMatrix& view = quantized.view();
      matrices[i].shape = view;
      const std::int64_t scales = bands_of(view.rows) * (view.columns / view.group_size) *
                                  static_cast<std::int64_t>(sizeof(BandScales));
      matrices[i].scales = append(view.scales, scales);
      matrices[i].data = append(view.data, matrix_bytes(view));
    }
  }
  file.finish();
  return result;
}

}  // namespace deepscale
