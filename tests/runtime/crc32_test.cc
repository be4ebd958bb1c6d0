// CRC-32 against published check values, and in pieces.
#include "runtime/checkpoint/crc32.h"

#include <gtest/gtest.h>

#include <string>

namespace deepscale {
namespace {

TEST(Crc32, GivesThePublishedCheckValues) {
  const std::string digits = "123456789";
  EXPECT_EQ(Crc32(Crc32::kIeee).of(digits.data(), digits.size()), 0xcbf43926U);
  EXPECT_EQ(Crc32(Crc32::kCastagnoli).of(digits.data(), digits.size()), 0xe3069283U);
  const std::string zeros(32, '\0');  // RFC 3720, B.4
  EXPECT_EQ(Crc32(Crc32::kCastagnoli).of(zeros.data(), zeros.size()), 0x8a9136aaU);
  EXPECT_EQ(Crc32(Crc32::kIeee).of(nullptr, 0), 0U);
}

TEST(Crc32, IsTheSameInPieces) {
  std::string bytes(100, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 37 + 11);
  const Crc32 crc(Crc32::kIeee);
  const std::uint32_t whole = crc.of(bytes.data(), bytes.size());
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    const std::uint32_t first = crc.of(bytes.data(), cut);
    EXPECT_EQ(crc.extend(first, bytes.data() + cut, bytes.size() - cut), whole) << cut;
  }
}

}  // namespace
}  // namespace deepscale
