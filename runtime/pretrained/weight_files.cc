#include "runtime/pretrained/weight_files.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <set>

#include "comm/base/error.h"
#include "runtime/pretrained/text_file.h"

namespace deepscale {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

std::filesystem::path checked_file(const std::filesystem::path& index, const std::string& name) {
  const std::filesystem::path file = name;
  if (name.empty() || file.has_parent_path() || name == "..") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: \"{}\" is not the name of a file beside it", index.string(), name));
  }
  return index.parent_path() / file;
}

}  // namespace

WeightView WeightView::of(const SafetensorsReader& reader, const SafetensorsReader::Entry& entry) {
  return {.dtype = entry.dtype,
          .shape = entry.shape,
          .data = reader.bytes_of(entry),
          .bytes = entry.bytes,
          .file = reader.file(),
          .offset = entry.begin};
}

WeightFiles::WeightFiles(const std::filesystem::path& directory) : directory_(directory) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{} is no folder: give the folder of a model in Hugging Face's "
                            "format (config.json and model.safetensors)",
                            directory.string()));
  }
  if (std::filesystem::exists(directory / kIndexFile, ignored)) {
    open_index(directory / kIndexFile);
  } else if (std::filesystem::exists(directory / kSingleFile, ignored)) {
    open_file(directory / kSingleFile);
  } else {
    throw Error(
        ErrorCode::kNotFound,
        fmt::format("{} has neither {} nor {}; a folder with pytorch_model.bin becomes one by loading and "
                    "saving it once in transformers",
                    directory.string(), kSingleFile, kIndexFile));
  }
}

void WeightFiles::open_index(const std::filesystem::path& index) {
  const nlohmann::json json =
      parse_json_object(read_text_file(index, "the list of the weight files"), index.string());
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: no \"weight_map\" in it", index.string()));
  }
  std::set<std::filesystem::path> files;
  for (const auto& [name, file] : map->items()) {
    files.insert(checked_file(index, file.is_string() ? file.get<std::string>() : ""));
  }
  for (const auto& file : files) open_file(file);
  for (const auto& [name, file] : map->items()) {
    if (!has(name)) {
      throw Error(ErrorCode::kNotFound,
                  fmt::format("{}: tensor '{}' is not in {}", index.string(), name, file.get<std::string>()));
    }
  }
}

void WeightFiles::open_file(const std::filesystem::path& path) {
  const auto reader = std::make_shared<const SafetensorsReader>(path);
  for (const auto& [name, entry] : reader->entries()) readers_.emplace(name, reader);
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, reader] : readers_) names.push_back(name);
  return names;
}

WeightView WeightFiles::view(const std::string& name) const {
  const auto found = readers_.find(name);
  if (found == readers_.end()) {
    throw Error(ErrorCode::kNotFound,
                fmt::format("{}: no tensor '{}' in its weights", directory_.string(), name));
  }
  const SafetensorsReader& reader = *found->second;
  return WeightView::of(reader, reader.entries().at(name));
}

std::int64_t WeightFiles::bytes() const {
  std::int64_t sum = 0;
  for (const auto& [name, reader] : readers_) sum += reader->entries().at(name).bytes;
  return sum;
}

}  // namespace deepscale
