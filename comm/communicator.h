// Collective operations among the ranks of a job.
//
// Every rank of a communicator calls the same operations in the same order with the same counts, dtypes and
// options. An operation starts when it is called, in that order, and returns a Work at once; its buffers
// belong to the operation until Work::wait() returns. A communicator is used from one thread at a time;
// abort() may come from any thread at any time.
//
// Failures: a rank that is lost, a deadline that passes, or abort() fails the operation in flight and all
// later ones: a broken communicator stays broken and says why (Error kPeerLost, kTimeout, kAborted). A wrong
// argument is Error(kInvalidArgument) on the calling rank before anything is sent.
//
// Reductions: bf16 and fp16 are summed in fp32 and rounded once; the order of summation is by rank, so all
// ranks get the same bits. kAverage is the sum divided by size(); for integers it truncates toward zero.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "comm/base/clock.h"
#include "comm/base/dtype.h"
#include "comm/base/log.h"
#include "comm/base/world_layout.h"
#include "comm/store/store.h"

namespace deepscale {

enum class ReduceOp : std::uint8_t { kSum, kAverage, kMax, kMin };
enum class DeviceKind : std::uint8_t { kCpu, kCuda };

// `count` elements of `dtype` at `data`; does not own them. `data` may be null when count is 0.
struct Buffer {
  void* data = nullptr;
  std::int64_t count = 0;
  DType dtype = DType::kFloat32;
  DeviceKind device = DeviceKind::kCpu;
  void* stream = nullptr;  // kCuda: the operation starts after what this cudaStream_t holds when it is called
  std::size_t bytes() const { return static_cast<std::size_t>(count) * size_of(dtype); }
};

// The buffers of one reduce_scatter or all_gather among several.
struct InputOutput {
  Buffer input;
  Buffer output;
};

// A handle to one operation in flight. Cheap to copy; an empty Work counts as done. Dropping it does not
// cancel.
class Work {
 public:
  class State {
   public:
    virtual ~State() = default;
    virtual bool is_done() const = 0;
    // Returns when done; throws what the operation failed with.
    virtual void wait() = 0;
    virtual void wait_on(void* stream) {
      (void)stream;
      wait();
    }
  };
  Work() = default;
  explicit Work(std::shared_ptr<State> state) : state_(std::move(state)) {}
  // Done when all of them are. Its wait() waits for all, also when one fails, and throws the first failure.
  static Work all_of(std::vector<Work> works);

  bool is_done() const { return state_ == nullptr || state_->is_done(); }
  // Blocks until the operation ended, at most until the communicator's timeout after its start.
  void wait() {
    if (state_ != nullptr) state_->wait();
  }
  // For CUDA buffers: what enters `stream` (a cudaStream_t) from now on starts after the operation, and the
  // caller goes on at once. An operation that fails later shows in the next one. For CPU buffers it is
  // wait().
  void wait_on(void* stream) {
    if (state_ != nullptr) state_->wait_on(stream);
  }

 private:
  std::shared_ptr<State> state_;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* backend() const = 0;             // a name from make_communicator()'s list
  virtual bool supports(DeviceKind device) const = 0;  // whether buffers of that device are taken

  // In place: every rank's buffer becomes the reduction over all ranks.
  virtual Work all_reduce(Buffer buffer, ReduceOp op) = 0;
  // `input` has size() * output.count elements; rank r gets the reduction of slice r. `output` may be that
  // very slice of `input`, in which case the rest of `input` keeps its values.
  virtual Work reduce_scatter(Buffer input, Buffer output, ReduceOp op) = 0;
  // `output` has size() * input.count elements; slice r comes from rank r. `input` may be the own slice of
  // `output`.
  virtual Work all_gather(Buffer input, Buffer output) = 0;
  // Every rank's buffer becomes that of `root`.
  virtual Work broadcast(Buffer buffer, int root) = 0;
  // Both have size() equal slices; slice s of rank r's input becomes slice r of rank s's output. No overlap.
  virtual Work all_to_all(Buffer input, Buffer output) = 0;
  // Matched in order per pair of ranks. Not to oneself.
  virtual Work send(Buffer buffer, int destination) = 0;
  virtual Work receive(Buffer buffer, int source) = 0;
  virtual Work barrier() = 0;

  // The same operation on many buffers as one, which ends when all have; a wrong argument among them starts
  // none. They count as that many operations, in order of the span; a backend may launch them together.
  Work all_reduce_each(std::span<const Buffer> buffers, ReduceOp op);
  Work reduce_scatter_each(std::span<const InputOutput> pairs, ReduceOp op);
  Work all_gather_each(std::span<const InputOutput> pairs);

  // Cuts the ranks into smaller communicators, as MPI_Comm_split does: those of one color come together, in
  // the order of `key` and, where that is equal, of their ranks here; none for a negative color. Every rank
  // calls it, in order among the other operations; blocks until all of its color have met, at most for the
  // timeout. The new communicator has the timeout, logger and store of this one, is independent of it, and
  // may outlive it. Error(kUnsupported) from a backend that cannot.
  virtual std::unique_ptr<Communicator> split(int color, int key);

  // Page-aligned memory of zeros for buffers. Where the backend can ("shm"), the peers read and write it in
  // place during collectives, which saves copies when the input of an operation lies in the same such
  // allocation on every rank; elsewhere it is plain memory. Every rank calls it in the same order with the
  // same size, as it does collectives; blocks until all have. Freed with the last pointer to it, also after
  // the communicator. Error(kSystem) on all ranks when one of them has no room for it. After an operation
  // that failed its content is undefined.
  virtual std::shared_ptr<std::byte> allocate_shared(std::size_t bytes);

  // Whether there is memory that all ranks can map: "shm" only, whose ranks are on one host.
  virtual bool has_common_memory() const { return false; }
  // Page-aligned memory of zeros, the same for all ranks: what one writes, every other reads after the next
  // operation that waits for it. No operation takes a buffer there that another rank writes meanwhile.
  // Called, freed and failing as allocate_shared(); Error(kUnsupported) where has_common_memory() is false.
  virtual std::shared_ptr<std::byte> allocate_common(std::size_t bytes);

  // Fails everything in flight and everything later on this rank, and closes its connections, so that the
  // peers fail soon too.
  virtual void abort(const std::string& reason) = 0;

 protected:
  // Around the operations of one of the _each() calls.
  virtual void begin_group() {}
  virtual void end_group() {}

 private:
  Work start_group(std::size_t count, const std::function<Work(std::size_t)>& start);
};

struct CommunicatorOptions {
  Clock::duration timeout = std::chrono::minutes(30);  // of each operation, and of the rendezvous
  std::string backend;                                 // force one, by name; empty: choose
  std::string name = "world";                          // key prefix in the store; unique per communicator
  std::string
      listen_address;  // tcp, gloo: numeric address of this rank; empty: choose (loopback for one host)
  Logger logger;       // rank 0 says in one line which backend was chosen and why
};

// The communicator of all ranks of the job: the first of these that works for all of them. `store` may be
// null when world_size is 1.
//
//   single        one rank
//   shm           the ranks of one host, where all of them can share memory
//   hierarchical  as many ranks, more than one, on each of several hosts: shm within, tcp between them
//   tcp           any ranks
//
// By name only: "gloo", any ranks of Linux hosts, through the library of that name.
std::unique_ptr<Communicator> make_communicator(const WorldLayout& layout, std::shared_ptr<Store> store,
                                                CommunicatorOptions options);

// For tests and for code that has a store at hand: the backends by name. make_shm_communicator() throws
// Error(kUnsupported) on all ranks together when they cannot share memory, make_gloo_communicator() when one
// of them has no Gloo.
std::unique_ptr<Communicator> make_single_communicator();
std::unique_ptr<Communicator> make_shm_communicator(int rank, int world_size, std::shared_ptr<Store> store,
                                                    CommunicatorOptions options);
std::unique_ptr<Communicator> make_tcp_communicator(int rank, int world_size, std::shared_ptr<Store> store,
                                                    CommunicatorOptions options);
std::unique_ptr<Communicator> make_gloo_communicator(int rank, int world_size, std::shared_ptr<Store> store,
                                                     CommunicatorOptions options);

}  // namespace deepscale
