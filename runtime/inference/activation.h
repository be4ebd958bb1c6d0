// The activation functions of feed-forward layers. Any thread; no errors.
//
// Silu's exponential is a polynomial that compilers make vectors of: its relative error is below 3e-7. The
// others are as the standard library has them.
#pragma once

#include <span>

#include "runtime/pretrained/model_config.h"

namespace deepscale {

// values[i] = activation(values[i])
void activate(Activation activation, std::span<float> values);

}  // namespace deepscale
