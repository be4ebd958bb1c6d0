// training_peer FOLDER TOKENS DS_CONFIG: a rank that trains the language model of the folder, from its
// weights, on "tokens", int64 [steps, ranks, batch, sequence], of a safetensors file. Rank 0 prints the mean
// loss over the ranks of every step, a line each.
#include <fmt/core.h>
#include <torch/torch.h>

#include "runtime/checkpoint/safetensors.h"
#include "runtime/engine/engine.h"
#include "runtime/models/language_model.h"
#include "runtime/models/pretrained.h"

namespace {

at::Tensor read_tokens(const std::string& file) {
  const deepscale::SafetensorsReader reader(file);
  at::Tensor tokens = at::empty(reader.entries().at("tokens").shape, at::kLong);
  reader.read("tokens", tokens.data_ptr());
  return tokens;
}

void train(const std::string& folder, const at::Tensor& tokens, const std::string& config) {
  at::set_num_threads(1);
  at::globalContext().setUserEnabledMkldnn(false);  // products by MKL, as the others' are
  const auto model = deepscale::language_model_from_pretrained(folder, {.dtype = at::kFloat});
  model->train();
  const auto engine = deepscale::initialize(model, config);
  for (std::int64_t step = 0; step < tokens.size(0); ++step) {
    const at::Tensor batch = tokens[step][engine->rank()];
    const at::Tensor loss = deepscale::next_token_loss(engine->forward(batch), batch);
    engine->backward(loss);
    engine->step();
    float mean = loss.item<float>();
    engine->communicator().all_reduce({.data = &mean, .count = 1}, deepscale::ReduceOp::kAverage).wait();
    if (engine->rank() == 0) fmt::print("loss {:.6f}\n", mean);
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return 2;
  try {
    train(arguments[1], read_tokens(arguments[2]), arguments[3]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
