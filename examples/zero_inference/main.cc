// Generates with a language model whose weights may be larger than the memory for them (ZeRO-Inference).
#include <fmt/core.h>

#include <cstdio>
#include <exception>

#include "examples/zero_inference/options.h"
#include "examples/zero_inference/run.h"

int main(int argc, char** argv) try {
  if (const auto options = zero_inference::parse_options(argc, argv)) zero_inference::run(*options);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "zero_inference: {}\n", error.what());
  return 1;
}
