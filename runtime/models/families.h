// The architectures, behind LanguageModel. Internal to runtime/models.
#pragma once

#include <memory>

#include "runtime/models/language_model.h"

namespace deepscale {

std::shared_ptr<LanguageModel> make_llama(const ModelConfig& config);  // and Phi-3
std::shared_ptr<LanguageModel> make_opt(const ModelConfig& config);
std::shared_ptr<LanguageModel> make_gpt2(const ModelConfig& config);

}  // namespace deepscale
