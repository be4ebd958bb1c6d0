// The whole of cifar10 behind its command line.
#pragma once

#include "examples/cifar10/options.h"

namespace cifar10 {

// Joins the job, trains, tests; rank 0 prints. Collective: all ranks call it with the same options. Throws
// what the data set, the configuration and the Engine throw, before the job is joined where that is possible.
void run(const Options& options);

}  // namespace cifar10
