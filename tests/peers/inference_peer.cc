// inference_peer FOLDER MODE: generates greedily behind prompts, and says how well the model knows a text.
//
// MODE is where the weights are and of how many bits: "mapped16", "mapped8", "mapped4" or "streamed16".
// Standard input is {"prompts": [[token]], "new_tokens": count, "text": [token]}; the output is
// {"generated": [[token]], "loss": mean of -log p over the text's tokens but the first}.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/inference/generate.h"
#include "runtime/inference/host_decoder.h"
#include "runtime/inference/streamed_source.h"

namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::int64_t kGroupSize = 64;

std::unique_ptr<deepscale::LayerSource> make_source(
    const std::string& mode, const std::shared_ptr<const deepscale::ModelWeights>& weights) {
  if (mode == "mapped16") return deepscale::make_mapped_source(weights);
  if (mode == "mapped8") return deepscale::make_quantized_source(*weights, 8, kGroupSize);
  if (mode == "mapped4") return deepscale::make_quantized_source(*weights, 4, kGroupSize);
  if (mode == "streamed16") return deepscale::make_streamed_source(deepscale::layers_in_files(*weights));
  throw std::invalid_argument("no mode " + mode);
}

double loss_of(std::span<const float> logits, std::int32_t token) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return std::log(sum) + largest - logits[static_cast<std::size_t>(token)];
}

double mean_loss(deepscale::Decoder& decoder, const Tokens& text) {
  decoder.reset();
  double sum = 0.0;
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    const deepscale::DecoderToken token{.sequence = 0, .token = text[i]};
    sum += loss_of(decoder.step({&token, 1}), text[i + 1]);
  }
  return sum / static_cast<double>(text.size() - 1);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  try {
    const auto given = nlohmann::json::parse(std::cin);
    const auto prompts = given.at("prompts").get<std::vector<Tokens>>();
    const deepscale::ModelConfig config = deepscale::read_model_config(arguments[1]);
    const auto weights = std::make_shared<deepscale::ModelWeights>(
        config, std::make_shared<deepscale::WeightFiles>(arguments[1]));
    deepscale::HostDecoder decoder(
        weights, make_source(arguments[2], weights),
        {.threads = 1, .sequences = static_cast<std::int64_t>(prompts.size()), .positions = 512});
    const auto generated = deepscale::generate(decoder, prompts, {.new_tokens = given.at("new_tokens")});
    const double loss = mean_loss(decoder, given.at("text").get<Tokens>());
    fmt::print("{}\n", nlohmann::json{{"generated", generated.tokens}, {"loss", loss}}.dump());
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
