// What the offload sections of a config mean for one rank.
//
//   offload_optimizer   model on the CPU             model on another device
//   none                host memory                  that device
//   cpu                 host memory                  host memory; gradients come down, parameters go up
//   nvme                a file in nvme_path          the same, through host memory
//
// With a `ratio` below 1 (stage 3, parameters on the model's device) so much of the state is offloaded, by
// elements in whole buckets, and the rest is updated on the model's device.
//
// In fp32 on the CPU the parameters are the masters, and the file holds the moments; else it holds masters
// too.
//
//   offload_param       (stage 3) this rank's slices of the parameters that are not gathered all the time
//   none                on the model's device
//   cpu                 in host memory, pinned as far as the budget goes
//   nvme                in a file in nvme_path; masters are apart then
//
// With parameters elsewhere the optimizer runs on the CPU. Below stage 3 offload_param has no effect.
#pragma once

#include <memory>

#include "comm/base/log.h"
#include "runtime/config/config.h"
#include "runtime/engine/master_weights.h"
#include "runtime/engine/parameter_slice.h"

namespace deepscale {

struct OffloadPlan {
  ParameterPlacement parameters;
  MasterPlacement masters;
  std::shared_ptr<StateFile> optimizer_file;  // null: the state is in memory
};

// `rank` names the files. Error(kSystem) for an nvme_path that cannot be used, naming it.
struct OffloadRequest {
  const Config& config;
  const OptimizerConfig& optimizer;
  c10::Device device;
  int rank;
};
OffloadPlan plan_offload(const OffloadRequest& request, Logger& logger);

}  // namespace deepscale
