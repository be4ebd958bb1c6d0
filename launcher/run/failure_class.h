// What kind of failure ended a job, from all that is known about the rank that caused it.
//
// What counts, in this order: a hang that the agent saw; how the process ended, where that leaves no question
// (a fault, a kill); what the rank itself reported over its link; the last lines of its stderr. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "agents/node/node_agent.h"
#include "launcher/run/out_of_memory.h"

namespace deepscale {

enum class FailureClass {
  kExitCode,   // and nothing tells why
  kException,  // of C++ or Python, that nobody handled
  kSegfault,   // a memory fault
  kCrash,      // another fault: abort, illegal instruction, division by zero ...
  kCuda,
  kCollectiveTimeout,
  kPeerLost,  // another rank was gone, and nothing tells of that one
  kOutOfMemory,
  kKilledFromOutside,
  kPreempted,  // asked to end by somebody outside the job
  kSignal,     // any other
  kHang,
  kNotStarted,
  kLost,
};

// "exit code", "out of memory", ...; the same in text and JSON.
const char* failure_class_name(FailureClass failure_class);

struct FailureEvidence {
  const RankResult& rank;
  const std::optional<Hang>& hang;
  const MemoryEvidence& memory;
  std::size_t rank_count = 1;
};

FailureClass classify(const FailureEvidence& evidence);

// A sentence or two for people.
std::string explain(FailureClass failure_class, const FailureEvidence& evidence);

std::string bytes_text(std::uint64_t bytes);  // "3.2 GB"

}  // namespace deepscale
