// Element types that cross process boundaries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace deepscale {

enum class DType : std::uint8_t { kFloat32, kBFloat16, kFloat16, kInt32, kInt64, kUInt8 };

std::size_t size_of(DType dtype);          // bytes of one element
const char* dtype_name(DType dtype);       // "fp32", "bf16", "fp16", "int32", "int64", "uint8"
DType parse_dtype(std::string_view name);  // also "float32", "bfloat16", "half", ...; Error(kInvalidArgument)
                                           // lists the names
bool is_floating_point(DType dtype);

}  // namespace deepscale
