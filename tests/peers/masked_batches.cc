// masked_batches DATA TOKENIZER LENGTH BATCH STEPS SEED RANK WORLD: the batches of a rank of
// bert_pretraining, one a line, as JSON: tokens and labels of all samples, one after the other.
#include <fmt/core.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "examples/bert_pretraining/text_data.h"

int main(int count, char** arguments) {
  if (count != 9) return 2;
  using namespace bert_pretraining;
  try {
    const auto number = [&](int index) { return std::strtol(arguments[index], nullptr, 10); };
    const auto tokenizer = deepscale::Tokenizer::from_pretrained(arguments[2]);
    const TextSamples samples(arguments[1], tokenizer, number(3));
    const auto seed = static_cast<std::uint64_t>(number(6));
    SampleOrder order({.samples = samples.count(),
                       .batch_size = number(4),
                       .rank = static_cast<int>(number(7)),
                       .world_size = static_cast<int>(number(8)),
                       .seed = seed});
    for (std::int64_t step = 0; step < number(5); ++step) {
      const MaskedBatch batch = mask(samples, order.of(step), tokenizer,
                                     {.mask_token = mask_token_of(tokenizer),
                                      .vocabulary = tokenizer.size(),
                                      .seed = seed,
                                      .step = static_cast<std::uint64_t>(step),
                                      .rank = static_cast<std::uint64_t>(number(7))});
      fmt::print("{}\n", nlohmann::json{{"tokens", batch.tokens}, {"labels", batch.labels}}.dump());
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
