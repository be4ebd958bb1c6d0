// A key-value cache that grows by concatenation: the simplest that is right.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "runtime/models/language_model.h"

namespace deepscale::testing {

class GrowingCache : public KeyValueCache {
 public:
  explicit GrowingCache(std::int64_t layers) : layers_(static_cast<std::size_t>(layers)) {}

  std::int64_t length() const override { return length_; }
  std::pair<at::Tensor, at::Tensor> append(std::int64_t layer, const at::Tensor& key,
                                           const at::Tensor& value) override {
    auto& [keys, values] = layers_.at(static_cast<std::size_t>(layer));
    keys = keys.defined() ? at::cat({keys, key}, 2) : key;
    values = values.defined() ? at::cat({values, value}, 2) : value;
    return {keys, values};
  }
  void advance(std::int64_t tokens) override { length_ += tokens; }

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> layers_;
  std::int64_t length_ = 0;
};

}  // namespace deepscale::testing
