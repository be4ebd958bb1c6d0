// tokenizer_peer FOLDER: each line of standard input is a text as JSON; each line of the output, its tokens
// and their text.
#include <fmt/core.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/tokenizer/tokenizer.h"

int main(int count, char** arguments) {
  if (count != 2) return 2;
  try {
    const auto tokenizer = deepscale::Tokenizer::from_pretrained(arguments[1]);
    for (std::string line; std::getline(std::cin, line);) {
      const auto tokens = tokenizer.encode(nlohmann::json::parse(line).get<std::string>());
      fmt::print("{}\n", nlohmann::json{{"tokens", tokens}, {"decoded", tokenizer.decode(tokens)}}.dump());
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
