#include "runtime/checkpoint/crc32.h"

namespace deepscale {

Crc32::Crc32(std::uint32_t reflected_polynomial) : tables_() {
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? reflected_polynomial : 0);
    tables_[0][byte] = value;
  }
  for (std::size_t table = 1; table < tables_.size(); ++table) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t shorter = tables_[table - 1][byte];
      tables_[table][byte] = shorter >> 8 ^ tables_[0][shorter & 0xff];
    }
  }
}

std::uint32_t Crc32::extend(std::uint32_t before, const void* data, std::size_t bytes) const {
  const auto* next = static_cast<const unsigned char*>(data);
  std::uint32_t crc = ~before;
  for (; bytes >= 8; bytes -= 8, next += 8) {
    const std::uint32_t low =
        crc ^ (next[0] | next[1] << 8 | next[2] << 16 | static_cast<std::uint32_t>(next[3]) << 24);
    crc = tables_[7][low & 0xff] ^ tables_[6][low >> 8 & 0xff] ^ tables_[5][low >> 16 & 0xff] ^
          tables_[4][low >> 24] ^ tables_[3][next[4]] ^ tables_[2][next[5]] ^ tables_[1][next[6]] ^
          tables_[0][next[7]];
  }
  for (; bytes > 0; --bytes, ++next) crc = crc >> 8 ^ tables_[0][(crc ^ *next) & 0xff];
  return ~crc;
}

}  // namespace deepscale
