// Floating-point operations of the operators that do the work of a network: matrix products, convolutions,
// attention, fused recurrent layers; forward and backward. A multiplication with an addition counts as two.
// Elementwise operators, normalisations and look-ups count as none.
#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <string_view>

namespace deepscale {

// Whether flops_of_operator() knows it: "aten::addmm".
bool has_flops(std::string_view name);
// `inputs` are the operator's arguments, in order.
std::int64_t flops_of_operator(std::string_view name, c10::ArrayRef<const c10::IValue> inputs);

}  // namespace deepscale
