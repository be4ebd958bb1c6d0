// The model of the benches that need one of any size: blocks of two W x 4W layers.
#pragma once

#include <torch/torch.h>

namespace deepscale::bench {

inline torch::nn::Sequential make_block_stack(int blocks, int width) {
  torch::nn::Sequential model;
  for (int block = 0; block < blocks; ++block) {
    model->push_back(torch::nn::Linear(width, 4 * width));
    model->push_back(torch::nn::ReLU());
    model->push_back(torch::nn::Linear(4 * width, width));
  }
  return model;
}

}  // namespace deepscale::bench
