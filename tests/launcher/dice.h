// The random choices of a chaos test, the same for a seed everywhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>
#include <thread>

namespace deepscale::testing {

class Dice {
 public:
  explicit Dice(std::uint32_t seed) : random_(seed) {}
  // 0 to count - 1. A distribution of the standard library would differ from one library to the next.
  int roll(int count) { return static_cast<int>(random_() % static_cast<unsigned>(count)); }
  bool is_one_in(int count) { return roll(count) == 0; }
  // Random moments are what such a test is about.
  void pause(int most_milliseconds) {
    std::this_thread::sleep_for(std::chrono::microseconds(roll(1000 * most_milliseconds)));
  }

 private:
  std::mt19937 random_;
};

}  // namespace deepscale::testing
