// Adapters: PEFT's compute the same here, ours go back and forth, and training them is the same at every
// stage.
#include "runtime/models/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"
#include "runtime/models/pretrained.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"
#include "tests/torch/golden_model.h"
#include "tests/torch/patchwork.h"
#include "tests/torch/world_of_threads.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<LanguageModel> load(const std::string& name) {
  auto model = language_model_from_pretrained(GoldenModel(name).folder, {.dtype = at::kFloat});
  model->eval();
  return model;
}

// An adapter with values of its own, as training would leave it.
void randomize_adapters(torch::nn::Module& model) {
  const at::NoGradGuard no_grad;
  for (auto& entry : model.named_parameters()) {
    if (is_of_adapter(entry.key())) entry.value().normal_(0.0, 0.3);
  }
}

class PeftAdapter : public ::testing::TestWithParam<const char*> {};

TEST_P(PeftAdapter, ComputesTheSameHere) {
  const at::NoGradGuard no_grad;
  const auto model = load(GetParam());
  const GoldenModel golden(std::string(GetParam()) + "_lora");
  const at::Tensor input_ids = golden.read("input_ids");
  EXPECT_GT(largest_difference(model->forward(input_ids), golden.read("logits")), 0.1);
  load_lora(*model, golden.folder);
  EXPECT_LT(largest_difference(model->forward(input_ids), golden.read("logits")), 1e-4);
}

TEST_P(PeftAdapter, FusedAndUnfusedAreTheSame) {
  const at::NoGradGuard no_grad;
  const auto model = load(GetParam());
  const GoldenModel golden(std::string(GetParam()) + "_lora");
  const at::Tensor input_ids = golden.read("input_ids");
  const at::Tensor before = model->forward(input_ids);
  load_lora(*model, golden.folder);
  const TemporaryFolder folder;
  save_pretrained(*model, folder.path());  // the adapters within its weights
  fuse_lora(*model);
  fuse_lora(*model);
  EXPECT_LT(largest_difference(model->forward(input_ids), golden.read("logits")), 1e-4);
  unfuse_lora(*model);
  EXPECT_LT(largest_difference(model->forward(input_ids), golden.read("logits")), 1e-4);
  const auto saved = language_model_from_pretrained(folder.path());
  saved->eval();
  EXPECT_LT(largest_difference(saved->forward(input_ids), golden.read("logits")), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Models, PeftAdapter, ::testing::Values("llama", "gpt2"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Lora, ANewAdapterChangesNothingAndIsAllThatIsTrained) {
  const auto model = load("opt");
  const at::Tensor input_ids = GoldenModel("opt").read("input_ids");
  const at::Tensor before = model->forward(input_ids);
  const std::size_t parameters = model->parameters().size();
  EXPECT_EQ(add_lora(*model, {.rank = 4, .alpha = 8.0}, {"layers.1.", "fc1"}), 7);
  only_optimize_lora(*model);
  EXPECT_TRUE(model->forward(input_ids).equal(before));
  std::size_t trained = 0;
  for (const at::Tensor& parameter : model->parameters()) trained += parameter.requires_grad() ? 1 : 0;
  EXPECT_EQ(trained, 14U);
  EXPECT_EQ(model->parameters().size(), parameters + 14);
}

TEST(Lora, WhatWasSavedLoads) {
  const at::NoGradGuard no_grad;
  const TemporaryFolder folder;
  const auto model = load("opt");
  torch::manual_seed(4);
  add_lora(*model, {.rank = 4, .alpha = 2.0});
  randomize_adapters(*model);
  save_lora(*model, folder.path(), {.base_model = "opt"});
  const auto loaded = load("opt");
  load_lora(*loaded, folder.path());
  const at::Tensor input_ids = GoldenModel("opt").read("input_ids");
  EXPECT_TRUE(loaded->forward(input_ids).equal(model->forward(input_ids)));
}

TEST(Lora, WhatDoesNotFitIsSaid) {
  const auto model = load("llama");
  EXPECT_THAT(refusal_of([&] { add_lora(*model, {}, {"fc1"}); }).message,
              HasSubstr("no linear layer has one of the given names in its own; there are model.layers.0"));
  EXPECT_EQ(refusal_of([&] { add_lora(*model, {.rank = 0}); }).code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refusal_of([&] { load_lora(*model, GoldenModel("gpt2_lora").folder); }).message,
              HasSubstr("the model has no linear layer 'transformer.h.0.attn.c_attn'"));
  EXPECT_EQ(refusal_of([&] { load_lora(*model, GoldenModel("llama").folder); }).code, ErrorCode::kNotFound);
  EXPECT_THAT(refusal_of([&] { save_lora(*load("llama"), "nowhere"); }).message, HasSubstr("no adapters"));
}

TEST(Lora, WhatPeftWouldComputeDifferentlyIsRefused) {
  const auto model = load("llama");
  const auto config = GoldenModel("llama_lora").folder / "adapter_config.json";
  const auto json = nlohmann::json::parse(std::ifstream(config));
  for (const auto& change : std::vector<nlohmann::json>{{{"use_dora", true}},
                                                        {{"use_rslora", true}},
                                                        {{"bias", "all"}},
                                                        {{"rank_pattern", {{"q_proj", 4}}}},
                                                        {{"modules_to_save", {"lm_head"}}},
                                                        {{"init_lora_weights", "pissa"}},
                                                        {{"peft_type", "LOHA"}}}) {
    const std::string key = change.begin().key();
    nlohmann::json changed = json;
    changed.update(change);
    const TemporaryFolder folder;
    folder.write("adapter_config.json", changed.dump());
    std::filesystem::copy_file(config.parent_path() / "adapter_model.safetensors",
                               folder.path() / "adapter_model.safetensors");
    const Refusal refusal = refusal_of([&] { load_lora(*model, folder.path()); });
    EXPECT_EQ(refusal.code, ErrorCode::kUnsupported) << key;
    EXPECT_THAT(refusal.message, HasSubstr("adapter_config.json: \"" + key + "\"")) << key;
  }
}

struct Case {
  int stage, world_size;
  int bits = 0;  // of the base; 0: not quantised
};
class Training : public ::testing::TestWithParam<Case> {};

// The losses of a few steps on all rows, and what the model computes in the end.
struct Outcome {
  std::vector<double> losses;
  at::Tensor logits;
};

std::vector<Outcome> train(const Case& c) {
  Config config;
  config.optimizer = OptimizerConfig{.lr = 2e-2};
  config.zero = {.stage = c.stage, .reduce_bucket_size = 200, .param_persistence_threshold = 10};
  std::vector<std::shared_ptr<LanguageModel>> models;
  for (int rank = 0; rank < c.world_size; ++rank) {
    torch::manual_seed(9);
    models.push_back(load("llama"));
    add_lora(*models.back(), {.rank = 4, .alpha = 8.0});
    if (c.bits != 0) quantize_base(*models.back(), {.bits = c.bits, .group_size = 8});
    only_optimize_lora(*models.back());
  }
  const at::Tensor input_ids = GoldenModel("llama").read("input_ids");
  std::vector<Outcome> outcomes(static_cast<std::size_t>(c.world_size));
  const TemporaryFolder folder;
  run_ranks(c.world_size, [&](int rank, const std::shared_ptr<Communicator>& communicator) {
    at::set_num_threads(1);
    const auto& model = models[static_cast<std::size_t>(rank)];
    const auto engine = initialize(model, config, rank_options(communicator));
    Outcome& outcome = outcomes[static_cast<std::size_t>(rank)];
    const at::Tensor rows = input_ids.chunk(c.world_size, 0)[static_cast<std::size_t>(rank)];
    for (int step = 0; step < 4; ++step) {
      const at::Tensor loss = next_token_loss(engine->forward(rows), rows);
      outcome.losses.push_back(loss.item<double>());
      engine->backward(loss);
      engine->step();
    }
    save_pretrained(*model, folder.path(), {.writes = rank == 0});
    engine->communicator().barrier().wait();
  });
  const auto saved = language_model_from_pretrained(folder.path());
  saved->eval();
  const at::NoGradGuard no_grad;
  outcomes.front().logits = saved->forward(input_ids);
  return outcomes;
}

TEST_P(Training, IsThatOfOneProcess) {
  const std::vector<Outcome> one = train({0, 1, GetParam().bits});
  const std::vector<Outcome> many = train(GetParam());
  for (std::size_t step = 0; step < one.front().losses.size(); ++step) {
    double mean = 0.0;
    for (const Outcome& outcome : many) mean += outcome.losses[step] / static_cast<double>(many.size());
    EXPECT_NEAR(mean, one.front().losses[step], 1e-4 * mean) << step;
  }
  EXPECT_LT(many.front().losses.back(), many.front().losses.front());
  EXPECT_LT(largest_difference(many.front().logits, one.front().logits), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Stages, Training,
                         ::testing::Values(Case{0, 2}, Case{1, 2}, Case{2, 2}, Case{3, 2}, Case{3, 1},
                                           Case{0, 2, 8}, Case{2, 2, 4}, Case{3, 2, 4}),
                         [](const auto& info) {
                           return "Stage" + std::to_string(info.param.stage) + "World" +
                                  std::to_string(info.param.world_size) +
                                  (info.param.bits != 0 ? "Bits" + std::to_string(info.param.bits) : "");
                         });

}  // namespace
}  // namespace deepscale::testing
