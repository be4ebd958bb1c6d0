// Runs the ranks of a job as threads of the test, each of which joins the job's store by itself.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <vector>

#include "comm/base/error.h"
#include "comm/store/store.h"

namespace deepscale {

inline void run_job_ranks(WorldLayout layout, const std::function<void(const WorldLayout&, Store&)>& body) {
  std::vector<std::thread> ranks;
  for (layout.rank = layout.world_size - 1; layout.rank >= 0; --layout.rank) {
    ranks.emplace_back([layout, &body] {
      try {
        body(layout, *join_job_store(layout, Logger(), Deadline::after(std::chrono::seconds(30))));
      } catch (const Error& error) {
        ADD_FAILURE() << "rank " << layout.rank << ": " << error.what();
      }
    });
  }
  for (auto& rank : ranks) rank.join();
}

}  // namespace deepscale
