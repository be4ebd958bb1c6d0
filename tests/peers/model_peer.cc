// model_peer FOLDER GIVEN ANSWERED [ADAPTER SAVED]: reads input_ids and attention_mask of a safetensors file,
// and writes what the model of the folder makes of them in fp32: "answer", the logits of a language model or
// the hidden states of BERT. With the adapter of a folder, which it saves again in another.
#include <fmt/core.h>
#include <torch/torch.h>

#include "runtime/checkpoint/safetensors.h"
#include "runtime/models/bert.h"
#include "runtime/models/lora.h"
#include "runtime/models/pretrained.h"

namespace {

at::Tensor read(const deepscale::SafetensorsReader& reader, const std::string& name) {
  at::Tensor tensor = at::empty(reader.entries().at(name).shape, at::kLong);
  reader.read(name, tensor.data_ptr());
  return tensor;
}

struct Adapter {
  std::string loaded, saved;  // folders; empty: none
};

at::Tensor answer(const std::string& folder, const Adapter& adapter, const at::Tensor& input_ids,
                  const at::Tensor& mask) {
  const deepscale::LoadOptions options{.dtype = at::kFloat};
  if (deepscale::read_model_config(folder).architecture == deepscale::Architecture::kBert) {
    const auto model = deepscale::bert_from_pretrained(folder, options);
    model->eval();
    return model->forward(input_ids, mask);
  }
  const auto model = deepscale::language_model_from_pretrained(folder, options);
  model->eval();
  if (!adapter.loaded.empty()) {
    deepscale::load_lora(*model, adapter.loaded);
    deepscale::save_lora(*model, adapter.saved, {.base_model = folder});
  }
  return model->forward(input_ids, mask);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4 && count != 6) return 2;
  try {
    const Adapter adapter = count == 6 ? Adapter{arguments[4], arguments[5]} : Adapter{};
    const at::NoGradGuard no_grad;
    const deepscale::SafetensorsReader reader(arguments[2]);
    const at::Tensor result =
        answer(arguments[1], adapter, read(reader, "input_ids"), read(reader, "attention_mask")).contiguous();
    deepscale::write_safetensors(arguments[3], {{"answer", "F32", result.sizes().vec(), result.data_ptr()}});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
