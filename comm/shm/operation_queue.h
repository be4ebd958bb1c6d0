// The operations of one kind that are in flight, and the thread that drives them: at any time at most one.
//
//   submit()    starts the operation at once, in the caller's thread, without waiting, unless somebody drives
//   wait()      drives, if nobody does; so an operation that is waited for needs no other thread
//   background  a thread that drives what nobody waits for, as soon as peers may need this rank's part
//
// The first Error of a driver makes the host fail, and with it everything in flight and everything later.
// submit() belongs to one thread at a time, the rest to any. The destructor fails what is in flight.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/shm/host.h"
#include "comm/shm/operation.h"
#include "comm/shm/waiter.h"

namespace deepscale::shm {

class OperationQueue {
 public:
  // What a kind of operation does. Called by the driver only.
  class Worker {
   public:
    virtual ~Worker() = default;
    // Takes the operation over and does what needs no waiting. True when the peers need nothing more from
    // this rank, so that the rest may happen as late as somebody waits for it.
    virtual bool start(Operation& operation) = 0;
    // Waits for peers and goes on until an operation has finished or `has_submissions` has become true.
    virtual void advance(const std::atomic<bool>& has_submissions) = 0;
    // After a failure: the operations that it took end without it.
    virtual void forget_all() = 0;
  };

  OperationQueue(Host& host, Lane lane, Waiter& waiter, Worker& worker)
      : host_(host), lane_(lane), waiter_(waiter), worker_(worker) {}
  ~OperationQueue();
  OperationQueue(const OperationQueue&) = delete;
  OperationQueue& operator=(const OperationQueue&) = delete;

  Work submit(OperationRequest request);
  // Ends the operation well. For the worker, which must not touch it any more.
  void finish(Operation& operation);
  // The background thread is to look after what is in flight, for example that the host has failed.
  void drive_in_background();

 private:
  friend class Operation;

  void wait(const Operation& operation);
  // For the driver, without the lock.
  bool start_alone(Operation& operation);
  void drive(const Operation* target);  // null: until nothing is in flight
  bool is_through(const Operation* target);
  std::vector<std::shared_ptr<Operation>> take_submissions();
  void fail_all();
  void run_background();
  // With the lock.
  void stop_driving();
  void wake_background();

  Host& host_;
  const Lane lane_;
  Waiter& waiter_;
  Worker& worker_;

  std::mutex mutex_;
  std::condition_variable progress_;                     // an operation is done, or nobody drives any more
  std::condition_variable background_;                   // there is something for the background thread
  std::deque<std::shared_ptr<Operation>> in_flight_;     // in the order of submission
  std::vector<std::shared_ptr<Operation>> submissions_;  // those of them that the worker has not taken yet
  std::atomic<bool> has_submissions_{false};
  bool driving_ = false;
  bool background_is_wanted_ = false;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace deepscale::shm
