// The supervisors of one io_context, what they need of this process, and what to do when one of them is
// killed.
//
// All children of one io_context are one job, in one cgroup where there may be one.
//
// Each takes three descriptors here, so this process raises its own limit as far as it may; children are
// started with the limit that it had before. The orphans of a killed supervisor become children of this
// process (it is a subreaper). They are told from the rest by exclusion: every child that is no supervisor.
// Only *_linux.cc files include this; same thread rules as ChildProcess.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <set>

#include "agents/process/job_cgroup_linux.h"
#include "comm/base/clock.h"

namespace deepscale {

class Supervisors : public boost::asio::execution_context::service {
 public:
  using key_type = Supervisors;
  static boost::asio::execution_context::id id;

  static Supervisors& of(boost::asio::io_context& io) { return boost::asio::use_service<Supervisors>(io); }
  explicit Supervisors(boost::asio::execution_context& context);

  // The limit of descriptors for the children.
  const rlimit& descriptor_limit() const { return descriptor_limit_; }

  const JobCgroup& cgroup() const { return cgroup_; }

  void add(pid_t supervisor) { pids_.insert(supervisor); }
  void remove(pid_t supervisor) { pids_.erase(supervisor); }

  // Kills every orphan and reaps those that are dead already. False when there was none: call it until then.
  bool kill_orphans() const;
  // Does so, and blocks until there are none or the deadline passes.
  void end_orphans(Deadline deadline) const;

 private:
  void shutdown() override {}

  rlimit descriptor_limit_ = {};
  std::set<pid_t> pids_;
  JobCgroup cgroup_;
};

}  // namespace deepscale
