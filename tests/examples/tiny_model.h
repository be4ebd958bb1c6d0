// The folder of a model with 64 tokens and a tokenizer of letters that fits it.
#pragma once

#include <fmt/core.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "tests/temporary_folder.h"

namespace examples::testing {

// Each small letter, sign and digit is a token; 0 ends a text.
inline std::string letter_tokenizer() {
  std::string vocabulary = R"("<unk>": 1, "[MASK]": 3, "[CLS]": 4, "[SEP]": 5)";
  int id = 6;
  for (const char letter : std::string_view("abcdefghijklmnopqrstuvwxyz 0123456789.,:?!+-=()")) {
    vocabulary += fmt::format(", \"{}\": {}", letter, id++);
  }
  return R"({"added_tokens": [{"id": 0, "content": "<pad>", "special": true}, {"id": 2, "content": "</s>", "special": true},
             {"id": 3, "content": "[MASK]", "special": true}, {"id": 4, "content": "[CLS]", "special": true},
             {"id": 5, "content": "[SEP]", "special": true}],
             "normalizer": {"type": "Lowercase"}, "decoder": {"type": "Fuse"},
             "model": {"type": "BPE", "unk_token": "<unk>", "merges": [], "vocab": {)" +
         vocabulary + "}}}";
}

class TinyModel {
 public:
  // A copy of that folder of tests/torch/golden, which a test may spoil.
  explicit TinyModel(const std::filesystem::path& golden) {
    for (const char* name : {"config.json", "model.safetensors"}) {
      std::filesystem::copy_file(golden / name, folder.path() / name);
    }
    folder.write("tokenizer.json", letter_tokenizer());
  }
  std::string path() const { return folder.path().string(); }

  deepscale::testing::TemporaryFolder folder;
};

}  // namespace examples::testing
