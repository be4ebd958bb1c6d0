// CRC-32 of bytes, eight at a time.
//
// Follows "A Systematic Approach to Building High Performance, Software-based, CRC Generators" (Kounavis and
// Berry, 2005), slicing by eight. A value is immutable and any thread may use it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace deepscale {

class Crc32 {
 public:
  static constexpr std::uint32_t kIeee = 0xedb88320;        // zlib, zip, PNG; bits reflected
  static constexpr std::uint32_t kCastagnoli = 0x82f63b78;  // CRC-32C: iSCSI, TFRecord

  explicit Crc32(std::uint32_t reflected_polynomial);

  std::uint32_t of(const void* data, std::size_t bytes) const { return extend(0, data, bytes); }
  // Of what has the CRC `before`, followed by these bytes.
  std::uint32_t extend(std::uint32_t before, const void* data, std::size_t bytes) const;

 private:
  std::array<std::array<std::uint32_t, 256>, 8> tables_;
};

}  // namespace deepscale
