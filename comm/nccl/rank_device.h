// What a rank brings along to an NCCL communicator: a GPU of its own and the libraries. Ranks tell each other
// before they join, so that all of them take NCCL or none does.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/nccl/cuda_driver.h"
#include "comm/nccl/nccl_api.h"

namespace deepscale::nccl {

struct RankDevice {
  std::shared_ptr<const cuda::Device> device;  // null: there is none
  std::shared_ptr<const Api> api;              // null: there is none
  std::string obstacle;                        // why something is missing
};

// Never throws what is merely missing.
RankDevice open_rank_device(int device, const std::string& nccl_library, const std::string& driver_library);

// What ranks tell each other.
struct RankDeviceNote {
  cuda::Uuid uuid{};
  std::array<char, 240> obstacle{};  // text, cut to fit; empty: ready
};
RankDeviceNote note_of(const RankDevice& device);

// Why NCCL cannot join these ranks, the same on all of them; nothing when it can.
std::optional<std::string> find_obstacle(const std::vector<RankDeviceNote>& notes);

// All ranks of `host` call it; blocks until they have.
std::vector<RankDeviceNote> exchange_notes(Communicator& host, RankDeviceNote own);
UniqueId exchange_unique_id(Communicator& host, const Api& api);

}  // namespace deepscale::nccl
