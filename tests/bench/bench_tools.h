// What the programs that measure share: their options, clocks and statistics. Not for several threads at
// once.
#pragma once

#include <cstdint>
#include <cxxopts.hpp>
#include <functional>
#include <string>
#include <vector>

namespace deepscale::bench {

// The middle one, the greater of two. Error(kInvalidArgument) without any.
double median(std::vector<double> values);

// On the wall's clock.
double seconds_of(const std::function<void()>& work);

struct Sharing {
  int threads = 1;
  bool cpu_time = false;  // count the seconds that the threads ran instead, divided by their number
};

// Of `work(begin, end)` on shares of [0, size), a thread each.
double seconds_of_shares(const Sharing& sharing, std::int64_t size,
                         const std::function<void(std::int64_t, std::int64_t)>& work);

// "KEY:   N kB" in a file of /proc, in MB; 0 where there is none.
double megabytes_in(const std::string& file, const std::string& key);

// A program's main(): reads the options, some of them perhaps without a name, and measures. What goes wrong
// is printed with the program's name, and is the exit code 2 for a mistake in the options and 1 otherwise.
int run(cxxopts::Options& options, int argc, char** argv, const std::function<void()>& measure);

}  // namespace deepscale::bench
