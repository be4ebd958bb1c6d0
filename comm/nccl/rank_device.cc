#include "comm/nccl/rank_device.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <type_traits>

namespace deepscale::nccl {

namespace {

template <typename Plain>
Buffer bytes_of(Plain* first, std::size_t count) {
  static_assert(std::is_trivially_copyable_v<Plain>);
  return {first, static_cast<std::int64_t>(count * sizeof(Plain)), DType::kUInt8};
}

}  // namespace

RankDevice open_rank_device(int device, const std::string& nccl_library, const std::string& driver_library) {
  RankDevice own;
  try {
    own.device = std::make_shared<cuda::Device>(driver_library, device);
    own.api = std::make_shared<Api>(nccl_library);
  } catch (const Error& error) {
    own.obstacle = error.what();
  }
  return own;
}

RankDeviceNote note_of(const RankDevice& device) {
  RankDeviceNote note;
  if (device.device) note.uuid = device.device->uuid();
  const std::size_t length = std::min(device.obstacle.size(), note.obstacle.size() - 1);
  std::copy_n(device.obstacle.data(), length, note.obstacle.data());
  return note;
}

std::optional<std::string> find_obstacle(const std::vector<RankDeviceNote>& notes) {
  std::map<cuda::Uuid, std::size_t> owners;
  for (std::size_t rank = 0; rank < notes.size(); ++rank) {
    if (notes[rank].obstacle[0] != '\0') return fmt::format("rank {}: {}", rank, notes[rank].obstacle.data());
    const auto [owner, is_new] = owners.emplace(notes[rank].uuid, rank);
    if (!is_new) return fmt::format("ranks {} and {} share a GPU, which NCCL refuses", owner->second, rank);
  }
  return std::nullopt;
}

std::vector<RankDeviceNote> exchange_notes(Communicator& host, RankDeviceNote own) {
  std::vector<RankDeviceNote> notes(static_cast<std::size_t>(host.size()));
  host.all_gather(bytes_of(&own, 1), bytes_of(notes.data(), notes.size())).wait();
  return notes;
}

UniqueId exchange_unique_id(Communicator& host, const Api& api) {
  struct {
    Result result = kSuccess;
    UniqueId id;
  } message;
  if (host.rank() == 0) message.result = api.get_unique_id(&message.id);
  host.broadcast(bytes_of(&message, 1), 0).wait();
  if (message.result != kSuccess) throw to_error(api, message.result, nullptr);
  return message.id;
}

}  // namespace deepscale::nccl
