// A world of ranks that are threads of this process, each with a communicator of its own.
//
// What a process would do to its peers when it dies, a rank does when its function throws: it aborts its
// communicator. The communicators live until every rank has ended, so a rank may finish while others still
// read what it sent.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace deepscale::testing {

using RankFunction = std::function<void(int rank, const std::shared_ptr<Communicator>& communicator)>;

// Runs `function` for every rank and returns when all have ended; then rethrows the exception that came
// first. At the limit all communicators are aborted, which ends every rank that waits for another one. One
// rank runs on the calling thread.
void run_ranks(int world_size, const RankFunction& function,
               std::chrono::seconds limit = std::chrono::seconds(60));

}  // namespace deepscale::testing
