// Trains the network of the CIFAR10 tutorial on all ranks of the job, and tells its accuracy.
#include <c10/util/Exception.h>
#include <fmt/core.h>

#include <exception>

#include "examples/cifar10/options.h"
#include "examples/cifar10/run.h"

int main(int argc, char** argv) {
  const auto fail = [](const char* why) {
    fmt::print(stderr, "cifar10: {}\n", why);
    return 1;
  };
  try {
    if (const auto options = cifar10::parse_options(argc, argv)) cifar10::run(*options);
    return 0;
  } catch (const c10::Error& error) {
    return fail(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
