// `deepscale launch`: from what was asked for to the exit code.
#pragma once

#include "launcher/job/job_spec.h"

namespace deepscale {

// Blocks until the job has ended. Prints what it has to say itself, except for what it throws:
// Error(kInvalidArgument) and Error(kUnsupported) for a request that cannot be met, Error(kSystem) when the
// system refuses; nothing was started then.
int launch(const JobSpec& spec);

}  // namespace deepscale
