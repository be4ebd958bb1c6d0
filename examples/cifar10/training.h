// Training and testing the network, on every rank of the job together.
//
// Collective: all ranks call these with the same data and options. Failures are those of the Engine.
#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "examples/cifar10/cifar10_dataset.h"
#include "runtime/engine/engine.h"

namespace cifar10 {

// Views of `Records`, which must outlive them.
struct LabelledImages {
  explicit LabelledImages(Records& records);

  std::int64_t count() const { return labels.size(0); }
  // A batch as the network takes it: floats from -1 to 1, [n, 3, 32, 32].
  torch::Tensor normalized_images(const torch::Tensor& indices) const;

  torch::Tensor images;  // uint8 [n, 3, 32, 32]
  torch::Tensor labels;  // int64 [n]
};

struct TrainingOptions {
  int epochs = 1;
  std::int64_t steps_limit = 0;  // 0: none
  std::int64_t log_interval = 100;
  std::uint64_t seed = 0;
};

// Rank 0 prints its loss, images per second over all ranks, and in fp16 the loss scale.
void train(deepscale::Engine& engine, const LabelledImages& data, const TrainingOptions& options);

using ClassCounts = std::array<std::int64_t, kClasses>;

// Test images of each class, over all ranks.
struct Accuracy {
  ClassCounts correct{};
  ClassCounts total{};
};
Accuracy test(deepscale::Engine& engine, const LabelledImages& data);

void print_accuracy(const Accuracy& accuracy, const std::vector<std::string>& class_names);

}  // namespace cifar10
