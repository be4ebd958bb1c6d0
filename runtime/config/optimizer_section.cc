// optimizer: its type, and the parameters that the type takes.
#include "runtime/config/sections.h"

namespace deepscale {
namespace {

using enum ValueType;

enum class OptimizerType { kAdam, kAdamW, kSgd, kLion, kAdagrad };

// In the order of OptimizerType, then those that DeepSpeed has and we do not.
const std::vector<std::string> kTypes = {
    "Adam",        "AdamW",      "SGD",    "Lion",    "Adagrad", "Lamb",     "Muon",      "OneBitAdam",
    "ZeroOneAdam", "OneBitLamb", "MuAdam", "MuAdamW", "MuSGD",   "Adadelta", "Adafactor", "Adamax",
    "ASGD",        "NAdam",      "RAdam",  "RMSprop", "Rprop",   "LBFGS",    "SparseAdam"};
constexpr std::size_t kTypesHere = 5;

void read_betas(const Value& value, std::array<double, 2>& betas) {
  const std::vector<Value> list = value.as_list();
  if (list.size() != betas.size()) value.fail("expected two numbers, got " + value.shown());
  for (std::size_t i = 0; i < betas.size(); ++i) {
    betas[i] = list[i].as_number(0.0, 1.0);
    if (betas[i] == 1.0) list[i].fail("expected a number below 1, got " + list[i].shown());
  }
}

std::vector<Key> common_keys(const ConfigContext& context, OptimizerConfig& optimizer) {
  std::vector<Key> keys = {
      {"lr", number(optimizer.lr, 0.0), {}, answer(optimizer.lr, context.lr)},
      {"weight_decay",
       number(optimizer.weight_decay, 0.0),
       {},
       answer(optimizer.weight_decay, context.weight_decay)},
      {"maximize", off_only("maximizing the loss")},
      {"max_grad_norm",
       [](const Value& value) {
         value.fail("is no parameter of an optimizer; use gradient_clipping at top level");
       }},
  };
  for (const char* name : {"foreach", "fused", "capturable", "differentiable", "set_grad_none"}) {
    keys.push_back({name, accepted(kBool)});
  }
  return keys;
}

Key betas_key(OptimizerConfig& optimizer) {
  return {"betas", [&](const Value& value) { read_betas(value, optimizer.betas); }};
}

void read_adam(const Value& params, bool decoupled_by_name, OptimizerConfig& optimizer) {
  bool adam_w_mode = true;
  bool torch_adam = false;
  std::vector<Key> keys = common_keys(params.context(), optimizer);
  keys.push_back(betas_key(optimizer));
  keys.push_back({"eps", number(optimizer.eps, 0.0)});
  keys.push_back({"bias_correction", boolean(optimizer.bias_correction)});
  keys.push_back({"adam_w_mode", boolean(adam_w_mode)});
  keys.push_back({"torch_adam", boolean(torch_adam)});
  keys.push_back({"amsgrad", off_only("AMSGrad")});
  keys.push_back({"fp32_optimizer_states", [](const Value& value) {
                    if (!value.as_bool()) value.not_here("optimizer state below fp32");
                  }});
  params.read_section(keys);
  // DeepSpeed decouples weight decay for "Adam" too, unless adam_w_mode is false.
  optimizer.kind = decoupled_by_name || adam_w_mode ? OptimizerKind::kAdamW : OptimizerKind::kAdam;
  // torch.optim.AdamW, which torch_adam selects, has a default of its own.
  if (torch_adam && optimizer.kind == OptimizerKind::kAdamW && !params.has("weight_decay"))
    optimizer.weight_decay = 0.01;
}

void read_sgd(const Value& params, OptimizerConfig& optimizer) {
  optimizer.kind = OptimizerKind::kSgd;
  std::vector<Key> keys = common_keys(params.context(), optimizer);
  keys.push_back({"momentum", number(optimizer.momentum, 0.0)});
  keys.push_back({"dampening", number(optimizer.dampening, 0.0)});
  keys.push_back({"nesterov", boolean(optimizer.nesterov)});
  params.read_section(keys);
  if (optimizer.nesterov && (optimizer.momentum == 0.0 || optimizer.dampening != 0.0)) {
    params.fail("nesterov needs a momentum above 0 and no dampening");
  }
}

void read_lion(const Value& params, OptimizerConfig& optimizer) {
  optimizer.kind = OptimizerKind::kLion;
  optimizer.lr = 1e-4;
  optimizer.betas = {0.9, 0.99};
  std::vector<Key> keys = common_keys(params.context(), optimizer);
  keys.push_back(betas_key(optimizer));
  params.read_section(keys);
}

void read_adagrad(const Value& params, OptimizerConfig& optimizer) {
  optimizer.kind = OptimizerKind::kAdagrad;
  optimizer.lr = 1e-2;
  optimizer.eps = 1e-10;
  std::vector<Key> keys = common_keys(params.context(), optimizer);
  keys.push_back({"eps", number(optimizer.eps, 0.0)});
  for (const char* name : {"lr_decay", "initial_accumulator_value"}) {
    keys.push_back({name, [name](const Value& value) {
                      if (value.as_number(0.0, kAnyNumber) > 0.0) value.not_here(name);
                    }});
  }
  params.read_section(keys);
}

void read_params(const Value& params, OptimizerType type, OptimizerConfig& optimizer) {
  switch (type) {
    case OptimizerType::kAdam:
      return read_adam(params, false, optimizer);
    case OptimizerType::kAdamW:
      return read_adam(params, true, optimizer);
    case OptimizerType::kSgd:
      return read_sgd(params, optimizer);
    case OptimizerType::kLion:
      return read_lion(params, optimizer);
    case OptimizerType::kAdagrad:
      return read_adagrad(params, optimizer);
  }
}

}  // namespace

void read_optimizer(const Value& section, std::optional<OptimizerConfig>& optimizer) {
  std::optional<OptimizerType> type;
  section.read_section({
      {"type",
       [&](const Value& value) {
         const std::size_t chosen = choose(value, kTypes);
         if (chosen >= kTypesHere) value.not_here(kTypes[chosen], "use Adam, AdamW, SGD, Lion or Adagrad");
         type = static_cast<OptimizerType>(chosen);
       }},
      {"params", accepted(kObject)},
      {"legacy_fusion", accepted(kBool)},
  });
  if (!type) {
    section.warn("has no type, so it is ignored and the program's own optimizer is used");
    return;
  }
  optimizer.emplace();
  read_params(section.member_or_empty("params"), *type, *optimizer);
}

}  // namespace deepscale
