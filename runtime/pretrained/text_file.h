// Small files of a model's folder, read whole.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace deepscale {

// Error(kNotFound) or Error(kSystem) with the path and, where it is missing, what the file is for.
std::string read_text_file(const std::filesystem::path& path, std::string_view what_for);

// A JSON object. Error(kInvalidArgument), which begins with `name`, for anything else.
nlohmann::json parse_json_object(std::string_view text, std::string_view name);

}  // namespace deepscale
