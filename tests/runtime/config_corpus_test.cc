// Files of the kinds that people have (data/*.json, written for this test), and what becomes of each:
// accepted with which values, or refused with which words. Two ranks; the program answers "auto" as an
// example of ours would.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "tests/runtime/config_fixture.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::filesystem::path kFolder = DEEPSCALE_TEST_DATA;

struct Verdict {
  std::string file;
  std::optional<ErrorCode> refused;  // empty: accepted
  std::string words;                 // in the error, or in the last warning
  int warnings = 0;                  // of an accepted file
  std::function<void(const Config&)> check = [](const Config&) {};
};

void PrintTo(const Verdict& verdict, std::ostream* out) {
  *out << verdict.file;
}

ConfigContext context_of_program() {
  ConfigContext context;
  context.data_parallel_world_size = 2;
  context.micro_batch_size = 4;
  context.gradient_accumulation_steps = 3;
  context.lr = 5e-5;
  context.weight_decay = 0.05;
  context.hidden_size = 1024;
  context.total_num_steps = 500;
  context.warmup_num_steps = 50;
  context.dtype = DType::kBFloat16;
  return context;
}

void expect_batch(const Config& c, std::int64_t train, std::int64_t micro, std::int64_t accumulation) {
  EXPECT_EQ(c.train_batch_size, train);
  EXPECT_EQ(c.micro_batch_size, micro);
  EXPECT_EQ(c.gradient_accumulation_steps, accumulation);
}

void check_hf_zero2(const Config& c) {
  expect_batch(c, 24, 4, 3);
  EXPECT_EQ(c.dtype, DType::kBFloat16);
  EXPECT_EQ(c.zero.stage, 2);
  EXPECT_EQ(c.zero.reduce_bucket_size, 1024 * 1024);
  EXPECT_EQ(c.zero.allgather_bucket_size, 200'000'000);
  EXPECT_TRUE(c.zero.overlap_comm);
  EXPECT_EQ(c.optimizer->lr, 5e-5);
  EXPECT_EQ(c.optimizer->weight_decay, 0.05);
  EXPECT_EQ(c.optimizer->eps, 1e-8);
  EXPECT_EQ(c.scheduler.kind, SchedulerKind::kWarmupDecayLr);
  EXPECT_EQ(c.scheduler.warmup_max_lr, 5e-5);
  EXPECT_EQ(c.scheduler.warmup_num_steps, 50);
  EXPECT_EQ(c.scheduler.total_num_steps, 500);
  EXPECT_EQ(c.gradient_clipping, 1.0);
}

void check_cifar(const Config& c) {
  expect_batch(c, 16, 8, 1);
  EXPECT_EQ(c.dtype, DType::kFloat16);
  EXPECT_TRUE(c.check_gradient_overflow);
  EXPECT_EQ(c.loss_scale.initial_scale_power, 15);
  EXPECT_EQ(c.loss_scale.loss_scale_window, 500);
  EXPECT_EQ(c.optimizer->kind, OptimizerKind::kAdamW);  // although it says Adam
  EXPECT_EQ(c.optimizer->betas[0], 0.8);
  EXPECT_EQ(c.zero.reduce_bucket_size, 50'000'000);
  EXPECT_EQ(c.steps_per_print, 2000);
}

void check_sft(const Config& c) {
  expect_batch(c, 64, 4, 8);
  EXPECT_EQ(c.gradient_accumulation_dtype, DType::kFloat32);
  EXPECT_TRUE(c.check_gradient_overflow);
  EXPECT_EQ(c.optimizer->weight_decay, 0.0);
  EXPECT_TRUE(c.scheduler.warmup_linear);
  EXPECT_EQ(c.scheduler.cos_min_ratio, 0.1);
}

void check_sgd(const Config& c) {
  EXPECT_EQ(c.optimizer->kind, OptimizerKind::kSgd);
  EXPECT_EQ(c.optimizer->momentum, 0.9);
  EXPECT_TRUE(c.optimizer->nesterov);
  EXPECT_EQ(c.gradient_clipping, 0.0);
  EXPECT_EQ(c.scheduler.cycle_second_stair_count, 500);
  EXPECT_EQ(c.scheduler.cycle_max_mom, 0.99);
}

void check_legacy_bfloat16(const Config& c) {
  expect_batch(c, 8, 1, 4);
  EXPECT_EQ(c.dtype, DType::kBFloat16);
  EXPECT_FALSE(c.check_gradient_overflow);
  EXPECT_EQ(c.optimizer->kind, OptimizerKind::kLion);
  EXPECT_EQ(c.optimizer->betas[1], 0.99);
}

constexpr ErrorCode kWrong = ErrorCode::kInvalidArgument;
constexpr ErrorCode kMissing = ErrorCode::kUnsupported;

const std::vector<Verdict>& verdicts() {
  static const std::vector<Verdict> all = {
      // Accepted.
      {"hf_zero2_auto.json", {}, "", 0, check_hf_zero2},
      {"hf_zero2_nothing_but_stage.json",
       {},
       "",
       0,
       [](const Config& c) {
         expect_batch(c, 8, 4, 1);
         EXPECT_EQ(c.dtype, DType::kFloat32);  // fp16 is "auto", and the program computes in bf16
         EXPECT_FALSE(c.zero.overlap_comm);
       }},
      {"axolotl_zero1.json",
       {},
       "",
       0,
       [](const Config& c) { EXPECT_EQ(c.loss_scale.initial_scale_power, 32); }},
      {"cifar_tutorial.json", {}, "", 0, check_cifar},
      {"bert_pretraining_comments.json",
       {},
       "",
       0,
       [](const Config& c) {
         expect_batch(c, 4096, 64, 32);
         EXPECT_FALSE(c.optimizer->bias_correction);
       }},
      {"sft_zero2_bf16.json", {}, "", 0, check_sft},
      {"sgd_momentum.json", {}, "", 0, check_sgd},
      {"lr_range_test.json",
       {},
       "",
       0,
       [](const Config& c) {
         EXPECT_EQ(c.optimizer->kind, OptimizerKind::kAdam);
         EXPECT_EQ(c.scheduler.lr_range_test_step_rate, 5.0);
       }},
      {"legacy_bfloat16.json", {}, "", 0, check_legacy_bfloat16},
      {"legacy_zero_bool.json",
       {},
       "zero_optimization: deprecated",
       1,
       [](const Config& c) {
         EXPECT_EQ(c.zero.stage, 1);
         EXPECT_EQ(c.loss_scale.loss_scale, 128.0);
       }},
      {"everything_off.json", {}, "", 0, [](const Config& c) { EXPECT_EQ(c.zero.stage, 1); }},
      {"monitoring_on.json", {}, "", 0, [](const Config& c) { EXPECT_TRUE(c.flops_profiler.enabled); }},
      {"unknown_top_level.json",
       {},
       "gradient_cliping: unknown key, ignored. Did you mean \"gradient_clipping\"?",
       3},
      {"hf_zero3_auto.json",
       {},
       "",
       0,
       [](const Config& c) {
         EXPECT_EQ(c.zero.offload_optimizer.device, OffloadDevice::kCpu);
         EXPECT_EQ(c.zero.offload_param.device, OffloadDevice::kCpu);
         EXPECT_EQ(c.zero.sub_group_size, 1'000'000'000);
       }},
      {"zero2_offload_optimizer.json",
       {},
       "",
       0,
       [](const Config& c) { EXPECT_EQ(c.zero.offload_optimizer.device, OffloadDevice::kCpu); }},
      {"legacy_cpu_offload.json",
       {},
       "zero_optimization.cpu_offload: deprecated",
       1,
       [](const Config& c) { EXPECT_EQ(c.zero.offload_optimizer.device, OffloadDevice::kCpu); }},
      {"nvme_infinity.json",
       {},
       "",
       0,
       [](const Config& c) {
         EXPECT_EQ(c.zero.offload_param.device, OffloadDevice::kNvme);
         EXPECT_EQ(c.zero.offload_param.nvme_path, "/local_nvme");
         EXPECT_EQ(c.zero.max_live_parameters, 30'000'000);
       }},
      {"windows_newlines_and_bom.json", {}, "", 0, [](const Config& c) { expect_batch(c, 4, 2, 1); }},
      // Of features to come.
      {"zeropp.json", kMissing, "zero_optimization.zero_quantized_weights: quantized weight gathering"},
      {"onebit_adam.json", kMissing, "optimizer.type: OneBitAdam is not in this version"},
      {"activation_checkpointing_on.json", kMissing, "activation_checkpointing.partition_activations: "},
      {"curriculum_on.json", kMissing, "curriculum_learning.enabled: curriculum learning"},
      {"elasticity_on.json", kMissing, "elasticity.enabled: elastic training"},
      {"tensor_parallel_on.json", kMissing, "tensor_parallel.autotp_size: tensor parallelism"},
      // Mistakes.
      {"typo_in_zero.json", kWrong,
       "zero_optimization.reduce_bucket_szie: unknown key. Did you mean \"reduce_bucket_size\"?"},
      {"typo_in_fp16.json", kWrong, "fp16.enable: unknown key. Did you mean \"enabled\"?"},
      {"batch_contradiction.json", kWrong, "64 != 8 * 2 * 2"},
      {"no_batch_size.json", kWrong,
       "either train_batch_size or train_micro_batch_size_per_gpu needs to be provided"},
      {"both_16_bit_types.json", kWrong, "fp16.enabled and bf16.enabled are both true"},
      {"decay_without_total.json", kWrong, "scheduler.params.total_num_steps: is required"},
      {"optimizer_max_grad_norm.json", kWrong,
       "optimizer.params.max_grad_norm: is no parameter of an optimizer; use gradient_clipping"},
      {"duplicate_key.json", kWrong, "zero_optimization.stage: the key occurs twice"},
      {"two_names_for_one.json", kWrong, "stage3_max_live_parameters: means the same as max_live_parameters"},
      {"missing_comma.json", kWrong, "line 5, column 18: malformed JSON"},
      {"hjson_unquoted.json", kWrong, "line 2, column 5: malformed JSON"},
      {"number_as_text.json", kWrong, "train_batch_size: expected a whole number, got \"4\""},
      {"half_a_bucket.json", kWrong,
       "zero_optimization.reduce_bucket_size: expected a whole number, got 1.5"},
      {"empty.json", kWrong, "the text is empty"},
      {"only_comments.json", kWrong, "the text is empty"},
      {"not_an_object.json", kWrong, "expected an object"},
  };
  return all;
}

class ConfigCorpus : public ::testing::TestWithParam<Verdict> {};

TEST_P(ConfigCorpus, GetsItsVerdict) {
  const Verdict& verdict = GetParam();
  const std::string path = (kFolder / verdict.file).string();
  ConfigContext context = context_of_program();
  // The one file that leaves its batch size to nobody.
  if (verdict.file == "no_batch_size.json") context.micro_batch_size.reset();
  if (verdict.refused) {
    const auto refusal = testing_config::refusal_of([&] { load_config(path, context); });
    EXPECT_EQ(refusal.code, *verdict.refused) << refusal.message;
    EXPECT_THAT(refusal.message, StartsWith(path + ": "));
    EXPECT_THAT(refusal.message, HasSubstr(verdict.words));
    EXPECT_EQ(refusal.message.find('\n'), std::string::npos) << "one sentence";
    return;
  }
  const Config config = load_config(path, context);
  EXPECT_EQ(config.warnings.size(), static_cast<std::size_t>(verdict.warnings));
  if (!config.warnings.empty()) {
    EXPECT_THAT(config.warnings.back(), HasSubstr(verdict.words));
  }
  verdict.check(config);
}

INSTANTIATE_TEST_SUITE_P(Files, ConfigCorpus, ::testing::ValuesIn(verdicts()), [](const auto& file) {
  return std::filesystem::path(file.param.file).stem().string();
});

TEST(ConfigCorpusTable, HasAVerdictForEveryFile) {
  std::set<std::string> with_verdict;
  for (const Verdict& verdict : verdicts()) with_verdict.insert(verdict.file);
  std::set<std::string> on_disk;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder))
    on_disk.insert(entry.path().filename().string());
  EXPECT_EQ(with_verdict, on_disk);
}

}  // namespace
}  // namespace deepscale
