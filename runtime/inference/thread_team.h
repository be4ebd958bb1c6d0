// A few threads that share the pieces of one piece of work after another, with little between them.
//
// run() is called from one thread at a time, which works too; it returns when all pieces are done. Between
// calls the others spin for a moment and then sleep, so a sequence of short pieces does not pay for waking
// them. An exception in a piece comes out of run().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace deepscale {

class ThreadTeam {
 public:
  explicit ThreadTeam(int threads);  // at least 1, the caller included
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const;
  // Calls work(begin, end) on consecutive parts of [0, count), of a multiple of `grain` elements but the
  // last.
  void run(std::int64_t count, std::int64_t grain,
           const std::function<void(std::int64_t, std::int64_t)>& work);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace deepscale
