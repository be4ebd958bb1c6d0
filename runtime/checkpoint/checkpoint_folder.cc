#include "runtime/checkpoint/checkpoint_folder.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "comm/base/error.h"
#include "runtime/checkpoint/durable_file.h"

namespace deepscale {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kIndexName = "checkpoint.json";
constexpr const char* kLatestName = "latest";
constexpr int kFormat = 2;

std::string read_text(const fs::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    const bool is_missing = errno == ENOENT || errno == ENOTDIR;
    throw Error(is_missing ? ErrorCode::kNotFound : ErrorCode::kSystem,
                is_missing ? fmt::format("no checkpoint: there is no file {}", path.string())
                           : fmt::format("cannot read {}: {}", path.string(), std::strerror(errno)));
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

Json to_json(const CheckpointIndex& index) {
  return {{"format", kFormat},
          {"files", index.files},
          {"world_size", index.files.size()},
          {"parameters", index.parameters},
          {"frozen_parameters", index.frozen_parameters},
          {"micro_steps", index.micro_steps},
          {"global_steps", index.global_steps},
          {"skipped_steps", index.skipped_steps},
          {"optimizer_steps", index.optimizer_steps},
          {"samples", index.samples},
          {"loss_scaler",
           {{"scale", index.loss_scaler.scale},
            {"hysteresis_left", index.loss_scaler.hysteresis_left},
            {"step", index.loss_scaler.step},
            {"last_overflow_step", index.loss_scaler.last_overflow_step},
            {"is_dynamic", index.loss_scaler.is_dynamic}}},
          {"client_state", index.client_state}};
}

CheckpointIndex from_json(const Json& json) {
  const Json& scaler = json.at("loss_scaler");
  CheckpointIndex index = {.files = json.at("files"),
                           .parameters = json.at("parameters"),
                           .frozen_parameters = json.at("frozen_parameters"),
                           .micro_steps = json.at("micro_steps"),
                           .global_steps = json.at("global_steps"),
                           .skipped_steps = json.at("skipped_steps"),
                           .optimizer_steps = json.at("optimizer_steps"),
                           .samples = json.at("samples"),
                           .loss_scaler = {.scale = scaler.at("scale"),
                                           .hysteresis_left = scaler.at("hysteresis_left"),
                                           .step = scaler.at("step"),
                                           .last_overflow_step = scaler.at("last_overflow_step"),
                                           .is_dynamic = scaler.at("is_dynamic")},
                           .client_state = json.at("client_state")};
  if (index.files.empty()) throw std::out_of_range("it lists no files");
  return index;
}

// Files of earlier saves under this tag, and of saves that did not come to their end.
void remove_stale_files(const fs::path& folder, const std::vector<std::string>& files) {
  static const std::regex rank_file(R"([0-9a-f]{8}\.rank_[0-9]+\.safetensors(\.incomplete|\.failed)?)");
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool is_ours = std::find(files.begin(), files.end(), name) != files.end();
    if (std::regex_match(name, rank_file) && !is_ours) fs::remove(entry.path(), ignored);
  }
}

using Age = std::pair<fs::file_time_type, fs::path>;

std::vector<Age> committed_checkpoints(const fs::path& directory) {
  std::vector<Age> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    std::error_code missing;
    const auto time = fs::last_write_time(entry.path() / kIndexName, missing);
    if (!missing) found.emplace_back(time, entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::string checkpoint_file_name(std::int64_t id, int rank) {
  return fmt::format("{:08x}.rank_{}.safetensors", id, rank);
}

std::string latest_tag(const fs::path& directory) {
  return read_text(directory / kLatestName);
}

CheckpointIndex read_checkpoint_index(const fs::path& folder) {
  const fs::path path = folder / kIndexName;
  const Json json = Json::parse(read_text(path), nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.value("format", Json(0)) == Json(kFormat)) {
    try {
      return from_json(json);
    } catch (const std::exception& error) {
      throw Error(ErrorCode::kProtocol, fmt::format("{}: damaged ({})", path.string(), error.what()));
    }
  }
  throw Error(ErrorCode::kProtocol,
              fmt::format("{}: damaged, or of another version of DeepScale", path.string()));
}

void commit_checkpoint(const fs::path& directory, const std::string& tag, const CheckpointIndex& index) {
  replace_file(directory / tag / kIndexName, to_json(index).dump(1));
  replace_file(directory / kLatestName, tag);
  remove_stale_files(directory / tag, index.files);
}

void keep_last_checkpoints(const fs::path& directory, const std::string& tag, int keep) {
  std::vector<Age> found = committed_checkpoints(directory);
  auto left = static_cast<std::ptrdiff_t>(found.size());
  for (const auto& [time, folder] : found) {
    if (left <= keep) return;
    if (folder.filename() == fs::path(tag)) continue;
    std::error_code ignored;
    fs::remove(folder / kIndexName, ignored);  // first: what is half removed must not look whole
    fs::remove_all(folder, ignored);
    --left;
  }
}

}  // namespace deepscale
