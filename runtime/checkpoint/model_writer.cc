#include "runtime/checkpoint/model_writer.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

#include "comm/base/error.h"
#include "runtime/checkpoint/safetensors.h"

namespace deepscale {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kIndexName = "model.safetensors.index.json";

[[noreturn]] void fail(const char* what, const fs::path& path, const std::error_code& failure) {
  throw Error(ErrorCode::kSystem, fmt::format("cannot {} {}: {}", what, path.string(), failure.message()));
}

}  // namespace

ModelWriter::ModelWriter(fs::path folder, std::vector<DeclaredTensor> tensors, std::int64_t most_bytes)
    : folder_(std::move(folder)), tensors_(std::move(tensors)) {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const std::int64_t bytes = stored_bytes(tensors_[i].dtype, tensors_[i].shape);
    if (shards_.empty() || (shards_.back().bytes > 0 && shards_.back().bytes + bytes > most_bytes))
      shards_.push_back({i, i, 0});
    shards_.back().end = i + 1;
    shards_.back().bytes += bytes;
  }
  if (shards_.empty()) shards_.push_back({0, 0, 0});
  std::error_code failure;
  fs::create_directories(folder_, failure);
  if (failure) fail("make the folder", folder_, failure);
}

ModelWriter::~ModelWriter() {
  file_.reset();
  std::error_code ignored;
  for (std::size_t shard = 0; shard < shards_begun_; ++shard) fs::remove(working_path(shard), ignored);
}

std::string ModelWriter::final_name(std::size_t shard) const {
  if (shards_.size() == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards_.size());
}

fs::path ModelWriter::working_path(std::size_t shard) const {
  return folder_ / (final_name(shard) + ".incomplete");
}

void ModelWriter::open_next_shard() {
  if (file_) file_->finish();
  const Shard& shard = shards_.at(shards_begun_);
  Json header = Json::object();
  header["__metadata__"] = {{"format", "pt"}};
  std::int64_t offset = 0;
  for (std::size_t i = shard.begin; i < shard.end; ++i) {
    const std::int64_t bytes = stored_bytes(tensors_[i].dtype, tensors_[i].shape);
    header[tensors_[i].name] = {{"dtype", tensors_[i].dtype},
                                {"shape", tensors_[i].shape},
                                {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  const std::string bytes = safetensors_prefix(header.dump());
  file_ = std::make_unique<DurableFile>(working_path(shards_begun_));
  ++shards_begun_;
  file_->write(bytes.data(), bytes.size());
  left_in_shard_ = shard.bytes;
}

void ModelWriter::write(const void* data, std::int64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    while (left_in_shard_ == 0) open_next_shard();
    const std::int64_t now = std::min(bytes, left_in_shard_);
    file_->write(next, static_cast<std::size_t>(now));
    next += now;
    bytes -= now;
    left_in_shard_ -= now;
  }
}

int ModelWriter::finish() {
  while (left_in_shard_ == 0 && shards_begun_ < shards_.size()) open_next_shard();
  if (left_in_shard_ != 0) {
    throw Error(ErrorCode::kInternal, fmt::format("{}: {} bytes of its tensors were not written",
                                                  working_path(shards_begun_ - 1).string(), left_in_shard_));
  }
  file_->finish();
  file_.reset();
  for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
    std::error_code failure;
    fs::rename(working_path(shard), folder_ / final_name(shard), failure);
    if (failure) fail("rename", working_path(shard), failure);
  }
  shards_begun_ = 0;
  if (shards_.size() > 1) write_index();
  remove_former_weights();
  flush_folder(folder_);
  return static_cast<int>(shards_.size());
}

void ModelWriter::write_index() const {
  Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
  std::int64_t total = 0;
  for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
    total += shards_[shard].bytes;
    for (std::size_t i = shards_[shard].begin; i < shards_[shard].end; ++i)
      index["weight_map"][tensors_[i].name] = final_name(shard);
  }
  index["metadata"]["total_size"] = total;
  replace_file(folder_ / kIndexName, index.dump(1));
}

// A reader would take them for parts of the new model.
void ModelWriter::remove_former_weights() const {
  static const std::regex shard_name("model(-[0-9]{5}-of-[0-9]{5})?\\.safetensors");
  std::set<std::string> ours;
  for (std::size_t shard = 0; shard < shards_.size(); ++shard) ours.insert(final_name(shard));
  std::error_code ignored;
  if (shards_.size() == 1) fs::remove(folder_ / kIndexName, ignored);
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (std::regex_match(name, shard_name) && ours.count(name) == 0) fs::remove(entry.path(), ignored);
  }
}

}  // namespace deepscale
