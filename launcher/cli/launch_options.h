// The options of `deepscale launch` as a table: the one place that knows their names, their help and what
// they do.
#pragma once

#include <string>
#include <vector>

#include "launcher/job/job_spec.h"

namespace deepscale {

struct LaunchOption {
  const char* group;       // heading in --help
  char letter;             // -H; 0: none
  const char* name;        // with '_'; --num-gpus is folded to it
  const char* value_name;  // nullptr: a switch
  const char* help;
  void (*apply)(
      JobSpec& spec,
      const std::string& value);  // Error(kInvalidArgument), without the option's name, for a bad value
};

const std::vector<LaunchOption>& launch_options();

// Other names that users of torchrun, mpirun and older DeepSpeed type: {"nproc_per_node", "num_gpus"} ...
struct OptionAlias {
  const char* alias;
  const char* name;
};
const std::vector<OptionAlias>& option_aliases();

// Options of the field that this version refuses by name, so that nobody wonders why nothing happens.
const std::vector<const char*>& options_not_yet_there();

}  // namespace deepscale
