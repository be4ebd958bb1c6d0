// Layers that are read from files while earlier ones compute: a step costs the larger of reading and
// computing.
//
// A few buffers, of one layer each, go round: reader threads fill the next ones, in pieces, while the decoder
// works on one. The buffers, and nothing else of the layers, are in memory.
//
// What a read throws comes out of acquire(), and again at every later one.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "runtime/inference/layer_source.h"

namespace deepscale {

// Bytes of a file, at any offset.
struct FilePart {
  std::size_t file = 0;  // of StreamedLayers::files
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
};

struct StreamedMatrix {
  WeightMatrix shape;  // without pointers
  FilePart data;
  FilePart scales;  // no bytes unless quantised
};

struct StreamedLayers {
  std::vector<std::filesystem::path> files;
  std::vector<std::array<StreamedMatrix, kLayerMatrices>> layers;
};

struct StreamOptions {
  int buffers = 2;  // layers in memory, the one in use included; at least 2
  int readers = 4;  // reads at a time
};

// The layers where they stand in the model's own files.
StreamedLayers layers_in_files(const ModelWeights& weights);

// Where write_quantized_layers() puts the layers.
StreamedLayers quantized_layers_in(const ModelWeights& weights, int bits, std::int64_t group_size,
                                   const std::filesystem::path& path);

// Quantises the layers one by one into `path`, which is overwritten, by so many threads, and says where they
// stand there. Errors as of QuantizedMatrix, and kSystem with the file for a disk that is full or a folder
// that is not writable.
StreamedLayers write_quantized_layers(const ModelWeights& weights, int bits, std::int64_t group_size,
                                      const std::filesystem::path& path, int threads = 1);

std::unique_ptr<LayerSource> make_streamed_source(StreamedLayers layers, const StreamOptions& options = {});

// The files' own pages, all of them: one copy for all processes of the machine. Error(kProtocol) for a file
// that is too short.
std::unique_ptr<LayerSource> make_mapped_source(StreamedLayers layers);

}  // namespace deepscale
