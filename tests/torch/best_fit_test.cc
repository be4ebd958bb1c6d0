// Ranges of an address space: never two at once in the same place, the smallest that fits, and nothing lost.
#include "runtime/engine/best_fit.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace deepscale {
namespace {

TEST(BestFit, TakesTheSmallestRangeThatIsLargeEnough) {
  BestFit fit(100);
  EXPECT_EQ(fit.take(10), 0U);
  EXPECT_EQ(fit.take(5), 10U);
  EXPECT_EQ(fit.take(4), 15U);
  EXPECT_EQ(fit.take(1), 19U);
  fit.give_back(0);
  fit.give_back(15);
  EXPECT_EQ(fit.take(3), 15U);
  EXPECT_EQ(fit.take(4), 0U);
  EXPECT_EQ(fit.take(80), 20U);
  EXPECT_EQ(fit.take(7), std::nullopt);
  EXPECT_EQ(fit.take(6), 4U);
}

TEST(BestFit, SaysHowFarItReached) {
  BestFit fit(100);
  EXPECT_EQ(fit.end(), 0U);
  const auto low = fit.take(10), high = fit.take(30);
  fit.give_back(*high);
  EXPECT_EQ(fit.end(), 10U);
  EXPECT_EQ(fit.exchange_greatest_end(), 40U);
  EXPECT_EQ(fit.exchange_greatest_end(), 10U);
  fit.give_back(*low);
  EXPECT_EQ(fit.free(), (std::map<std::size_t, std::size_t>{{0, 100}}));
}

TEST(BestFit, KeepsRangesApartAndMergesThemAgain) {
  constexpr std::size_t kSize = 5000;
  std::mt19937 random(1);
  BestFit fit(kSize);
  std::map<std::size_t, std::size_t> taken;
  for (int i = 0; i < 20000; ++i) {
    const std::size_t size = 1 + random() % 100;
    if (const auto offset = random() % 3 == 0 ? std::nullopt : fit.take(size)) {
      const auto next = taken.lower_bound(*offset);
      ASSERT_TRUE(next == taken.end() || *offset + size <= next->first);
      ASSERT_TRUE(next == taken.begin() || std::prev(next)->first + std::prev(next)->second <= *offset);
      ASSERT_LE(*offset + size, kSize);
      taken[*offset] = size;
    } else if (!taken.empty()) {
      const auto chosen = std::next(taken.begin(), static_cast<long>(random() % taken.size()));
      fit.give_back(chosen->first);
      taken.erase(chosen);
    }
  }
  ASSERT_FALSE(taken.empty());
  for (const auto& [offset, size] : taken) fit.give_back(offset);
  EXPECT_EQ(fit.free(), (std::map<std::size_t, std::size_t>{{0, kSize}}));
}

}  // namespace
}  // namespace deepscale
