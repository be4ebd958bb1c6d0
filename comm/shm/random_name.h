// A name that nobody else on this host has.
#pragma once

#include <random>
#include <string>

namespace deepscale::shm {

inline std::string random_name() {
  std::random_device random;
  std::uniform_int_distribution<int> digit(0, 15);
  std::string name = "deepscale-";
  for (int i = 0; i < 32; ++i) name += "0123456789abcdef"[digit(random)];
  return name;
}

}  // namespace deepscale::shm
