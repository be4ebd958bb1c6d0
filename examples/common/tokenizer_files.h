// The files beside a model's weights and config.json that transformers reads: those of its tokenizer, and how
// it generates.
#pragma once

#include <filesystem>

namespace examples {

// Copies those that are there, over what `to` has of them; both are folders, and may be the same. Blocking.
// Throws std::filesystem::filesystem_error.
void copy_tokenizer_files(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace examples
