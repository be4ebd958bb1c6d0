// The rules of ds_config.json, one by one.
#include "runtime/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/runtime/config_fixture.h"

namespace deepscale {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing_config::message_of;
using testing_config::message_of_members;
using testing_config::parse;
using testing_config::parse_members;
using testing_config::refusal_of;

TEST(Config, HasDeepSpeedsDefaults) {
  const Config config = parse(R"({"train_batch_size": 1})");
  EXPECT_EQ(config.gradient_clipping, 1.0);
  EXPECT_EQ(config.steps_per_print, 0);
  EXPECT_EQ(config.dtype, DType::kFloat32);
  EXPECT_FALSE(config.check_gradient_overflow);
  EXPECT_FALSE(config.optimizer.has_value());
  EXPECT_EQ(config.scheduler.kind, SchedulerKind::kNone);
  EXPECT_EQ(config.zero.stage, 0);
  EXPECT_EQ(config.zero.reduce_bucket_size, 500'000'000);
  EXPECT_FALSE(config.zero.overlap_comm);
  EXPECT_TRUE(config.zero.ignore_unused_parameters);
  EXPECT_TRUE(config.zero.offload_optimizer.pin_memory);
  EXPECT_EQ(config.loss_scale.initial_scale_power, 16);
  EXPECT_THAT(config.warnings, IsEmpty());
}

// train, micro, accumulation as the file gives them (0: not there) on a world; what comes out, or words of
// the error.
struct Triangle {
  std::int64_t train, micro, accumulation;
  int world;
  std::vector<std::int64_t> result;
  const char* words = "";
};

TEST(Config, CompletesTheBatchTriangle) {
  const std::vector<Triangle> triangles = {
      {32, 4, 2, 4, {32, 4, 2}},
      {32, 4, 0, 4, {32, 4, 2}},
      {32, 0, 2, 4, {32, 4, 2}},
      {0, 4, 2, 4, {32, 4, 2}},
      {32, 0, 0, 4, {32, 8, 1}},
      {0, 4, 0, 4, {16, 4, 1}},
      {1, 0, 0, 1, {1, 1, 1}},
      {32, 4, 2, 2, {}, "32 != 4 * 2 * 2"},
      {10, 4, 0, 1, {}, "10 != 4 * 2 * 1 (gradient_accumulation_steps was computed)"},
      {10, 0, 4, 1, {}, "10 != 2 * 4 * 1 (train_micro_batch_size_per_gpu was computed)"},
      {3, 0, 0, 4, {}, "3 != 0 * 1 * 4 (train_micro_batch_size_per_gpu was computed)"},
      {2, 4, 0, 1, {}, "2 != 4 * 0 * 1"},
      {0, 0, 0, 1, {}, "either train_batch_size or train_micro_batch_size_per_gpu needs to be provided"},
      {0, 0, 2, 1, {}, "either train_batch_size or train_micro_batch_size_per_gpu needs to be provided"},
      {0, 4'000'000'000, 4'000'000'000, 4, {}, "is not equal to"},  // beyond 64 bits
      {-4, 0, 0, 1, {}, "train_batch_size: expected at least 1, got -4"},
  };
  for (const Triangle& t : triangles) {
    std::string text = "{";
    if (t.train != 0) text += "\"train_batch_size\": " + std::to_string(t.train) + ",";
    if (t.micro != 0) text += "\"train_micro_batch_size_per_gpu\": " + std::to_string(t.micro) + ",";
    if (t.accumulation != 0)
      text += "\"gradient_accumulation_steps\": " + std::to_string(t.accumulation) + ",";
    text += "}";
    SCOPED_TRACE(text + " world " + std::to_string(t.world));
    ConfigContext context;
    context.data_parallel_world_size = t.world;
    if (t.result.empty()) {
      EXPECT_THAT(message_of(text, context), HasSubstr(t.words));
      continue;
    }
    const Config config = parse(text, context);
    EXPECT_EQ(
        (std::vector{config.train_batch_size, config.micro_batch_size, config.gradient_accumulation_steps}),
        t.result);
  }
}

TEST(Config, AnswersAutomaticBatchSizesFromTheProgram) {
  const std::string all_auto =
      R"({"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"})";
  ConfigContext context;
  context.data_parallel_world_size = 2;
  const Config unanswered = parse(all_auto, context);
  EXPECT_EQ(unanswered.train_batch_size, 2);
  EXPECT_THAT(unanswered.warnings, ElementsAre(HasSubstr("the micro batch size is 1")));

  context.micro_batch_size = 8;
  context.gradient_accumulation_steps = 4;
  EXPECT_EQ(parse(all_auto, context).train_batch_size, 64);
  EXPECT_THAT(parse(all_auto, context).warnings, IsEmpty());
  EXPECT_EQ(
      parse(R"({"train_batch_size": 32, "gradient_accumulation_steps": "auto"})", context).micro_batch_size,
      4);
  EXPECT_THAT(message_of(R"({"train_batch_size": 32, "train_micro_batch_size_per_gpu": "auto",
                             "gradient_accumulation_steps": "auto"})",
                         context),
              HasSubstr("32 != 8 * 4 * 2"));
  // What the file says stays, whatever the program would say.
  EXPECT_EQ(parse(R"({"train_batch_size": 32})", context).micro_batch_size, 16);
}

TEST(Config, ReadsWholeNumbersInAnyNotation) {
  for (const char* size : {"500000000", "5e8", "5E+8", "500000000.0", "0.5e9"}) {
    const Config config =
        parse_members(std::string(R"("zero_optimization": {"reduce_bucket_size": )") + size + "}");
    EXPECT_EQ(config.zero.reduce_bucket_size, 500'000'000) << size;
  }
  const auto message = [](const std::string& size) {
    return message_of_members(R"("zero_optimization": {"reduce_bucket_size": )" + size + "}");
  };
  EXPECT_THAT(message("1.5"),
              HasSubstr("zero_optimization.reduce_bucket_size: expected a whole number, got 1.5"));
  EXPECT_THAT(message("0"), HasSubstr("expected at least 1, got 0"));
  EXPECT_THAT(message("1e30"), HasSubstr("expected a whole number"));
  EXPECT_THAT(message("9223372036854775808"), HasSubstr("expected a whole number"));
  EXPECT_THAT(message("18446744073709551615"), HasSubstr("expected a whole number"));
  EXPECT_THAT(message("true"), HasSubstr("expected a whole number, got true"));
  EXPECT_THAT(message("\"5e8\""), HasSubstr("expected a whole number, got \"5e8\""));
  EXPECT_THAT(message("[1]"), HasSubstr("expected a whole number, got [1]"));
}

TEST(Config, ChecksTypes) {
  EXPECT_THAT(message_of_members(R"("fp16": {"enabled": 1})"),
              HasSubstr("fp16.enabled: expected true or false, got 1"));
  EXPECT_THAT(message_of_members(R"("fp16": {"enabled": "true"})"),
              HasSubstr("expected true or false, got \"true\""));
  EXPECT_THAT(message_of_members(R"("fp16": true)"),
              HasSubstr("fp16: expected an object, { ... }, got true"));
  EXPECT_THAT(message_of_members(R"("zero_optimization": 2)"),
              HasSubstr("zero_optimization: expected an object"));
  EXPECT_THAT(message_of_members(R"("zero_optimization": {"stage": 7})"),
              ::testing::StrEq("ds_config.json: zero_optimization.stage: expected 0..3, got 7"));
  EXPECT_THAT(message_of_members(R"("zero_optimization": {"contiguous_gradients": 1})"),
              HasSubstr("expected true or false"));
  EXPECT_THAT(message_of_members(R"("gradient_clipping": false)"), HasSubstr("expected a number, got false"));
  EXPECT_THAT(message_of_members(R"("gradient_clipping": -1)"), HasSubstr("expected at least 0, got -1"));
  EXPECT_THAT(message_of_members(R"("gradient_predivide_factor": 0)"),
              HasSubstr("expected a number above 0, got 0"));
  EXPECT_THAT(message_of_members(R"("optimizer": {"type": 3})"),
              HasSubstr("optimizer.type: expected a text in quotes, got 3"));
  EXPECT_THAT(message_of_members(R"("log_level": ")" + std::string(500, 'x') + "\", \"optimizer\": \"" +
                                 std::string(500, 'y') + "\""),
              ::testing::SizeIs(::testing::Lt(200u)));
}

TEST(Config, TakesNullAsNotThere) {
  const Config config =
      parse(R"({"train_batch_size": 4, "train_micro_batch_size_per_gpu": null, "optimizer": null,
                                  "steps_per_print": null, "zero_optimization": {"stage": 1, "offload_optimizer": null,
                                  "overlap_comm": null}, "fp16": null})");
  EXPECT_EQ(config.micro_batch_size, 4);
  EXPECT_FALSE(config.optimizer.has_value());
}

TEST(Config, WarnsOfUnknownTopLevelKeysUnlessStrict) {
  const std::string text = R"({"train_batch_size": 1, "zero_optimisation": {"stage": 1}})";
  EXPECT_THAT(
      parse(text).warnings,
      ElementsAre(
          "ds_config.json: zero_optimisation: unknown key, ignored. Did you mean \"zero_optimization\"?"));
  ConfigContext strict;
  strict.strict = true;
  EXPECT_THAT(message_of(text, strict),
              HasSubstr("zero_optimisation: unknown key. Did you mean \"zero_optimization\"?"));
}

TEST(Config, KnowsBothNamesOfAKey) {
  EXPECT_NO_THROW(parse_members(R"("zero_optimization": {"stage3_prefetch_bucket_size": 5e7})"));
  EXPECT_NO_THROW(parse_members(R"("zero_optimization": {"prefetch_bucket_size": 5e7})"));
  EXPECT_NO_THROW(
      parse_members(R"("zero_optimization": {"stage3_gather_fp16_weights_on_model_save": true})"));
  EXPECT_EQ(parse_members(R"("bfloat16": {"enabled": true})").dtype, DType::kBFloat16);
  EXPECT_THAT(message_of_members(R"("bf16": {}, "bfloat16": {})"),
              HasSubstr("bfloat16: means the same as bf16"));
}

TEST(Config, ReadsOffloading) {
  const Config config = parse_members(
      R"("zero_optimization": {"stage": 2, "sub_group_size": 3e6,
         "offload_optimizer": {"device": "nvme", "nvme_path": "/nvme", "pin_memory": false, "pipeline_read": true}},
         "aio": {"block_size": 65536, "queue_depth": 32})");
  EXPECT_EQ(config.zero.offload_optimizer.device, OffloadDevice::kNvme);
  EXPECT_EQ(config.zero.offload_optimizer.nvme_path, "/nvme");
  EXPECT_FALSE(config.zero.offload_optimizer.pin_memory);
  EXPECT_EQ(config.zero.sub_group_size, 3'000'000);
  EXPECT_EQ(config.aio.block_size, 65536);
  EXPECT_EQ(config.aio.queue_depth, 32);
  EXPECT_EQ(parse_members("").aio.block_size, 1 << 20);
  EXPECT_EQ(parse_members("").aio.queue_depth, 8);
  EXPECT_THAT(message_of_members(R"("aio": {"queue_depth": 0})"), HasSubstr("aio.queue_depth"));
}

TEST(Config, ReadsTheOldSwitchesOfZero) {
  EXPECT_EQ(parse_members(R"("zero_optimization": true)").zero.stage, 1);
  EXPECT_EQ(parse_members(R"("zero_optimization": false)").zero.stage, 0);
  EXPECT_NO_THROW(parse_members(
      R"("zero_optimization": {"stage": 2, "cpu_offload": false, "cpu_offload_param": false})"));
  EXPECT_EQ(parse_members(R"("zero_optimization": {"stage": 2, "cpu_offload": true})")
                .zero.offload_optimizer.device,
            OffloadDevice::kCpu);
  EXPECT_THAT(
      message_of_members(
          R"("zero_optimization": {"stage": 2, "cpu_offload": true, "offload_optimizer": {"device": "none"}})"),
      HasSubstr("cpu_offload: means the same as offload_optimizer"));
}

TEST(Config, ChoosesTheDataType) {
  const auto config = [](const std::string& members) { return parse_members(members); };
  EXPECT_EQ(config(R"("fp16": {"enabled": false})").dtype, DType::kFloat32);
  EXPECT_TRUE(config(R"("fp16": {"enabled": true})").check_gradient_overflow);
  EXPECT_TRUE(config(R"("bf16": {"enabled": true})").check_gradient_overflow);
  EXPECT_FALSE(config(R"("bf16": {"enabled": true, "check_grad_overflow": false})").check_gradient_overflow);
  EXPECT_FALSE(config(R"("bf16": {"check_grad_overflow": true})").check_gradient_overflow);  // not enabled
  EXPECT_EQ(config(R"("data_types": {"grad_accum_dtype": "bf16"})").gradient_accumulation_dtype,
            DType::kBFloat16);
  EXPECT_THAT(message_of_members(R"("data_types": {"grad_accum_dtype": "fp8"})"),
              HasSubstr("data_types.grad_accum_dtype: expected one of fp32"));
  EXPECT_NO_THROW(config(R"("bf16": {"enabled": true}, "communication_data_type": "bf16")"));
  EXPECT_THAT(message_of_members(R"("bf16": {"enabled": true}, "communication_data_type": "fp32")"),
              HasSubstr("communication_data_type: gradients travel as bf16 here, got fp32"));

  const std::string both_auto = R"("fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"})";
  ConfigContext context;
  EXPECT_EQ(parse_members(both_auto, context).dtype, DType::kFloat32);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    context.dtype = dtype;
    EXPECT_EQ(parse_members(both_auto, context).dtype, dtype);
  }
}

TEST(Config, ChecksTheLossScale) {
  const auto message = [](const std::string& key) {
    return message_of_members(R"("fp16": {"enabled": true, )" + key + "}");
  };
  EXPECT_THAT(message(R"("loss_scale": -1)"), HasSubstr("fp16.loss_scale: expected at least 0, got -1"));
  EXPECT_THAT(message(R"("loss_scale_window": 0)"),
              HasSubstr("fp16.loss_scale_window: expected at least 1, got 0"));
  EXPECT_THAT(message(R"("hysteresis": 0)"), HasSubstr("fp16.hysteresis"));
  EXPECT_THAT(message(R"("min_loss_scale": 0)"), HasSubstr("fp16.min_loss_scale: expected a number above 0"));
  EXPECT_THAT(message(R"("initial_scale_power": 1000)"), HasSubstr("expected 0..127, got 1000"));
}

TEST(Config, ReadsOptimizers) {
  const auto optimizer = [](const std::string& members) {
    return *parse_members(R"("optimizer": {)" + members + "}").optimizer;
  };
  EXPECT_EQ(optimizer(R"("type": "Adam")").kind, OptimizerKind::kAdamW);
  EXPECT_EQ(optimizer(R"("type": "adamw")").kind, OptimizerKind::kAdamW);
  EXPECT_EQ(optimizer(R"("type": "Adam", "params": {"adam_w_mode": false})").kind, OptimizerKind::kAdam);
  EXPECT_EQ(optimizer(R"("type": "AdamW", "params": {"adam_w_mode": false})").kind, OptimizerKind::kAdamW);
  EXPECT_EQ(optimizer(R"("type": "AdamW")").lr, 1e-3);
  EXPECT_EQ(optimizer(R"("type": "AdamW")").weight_decay, 0.0);
  // torch.optim.AdamW has a default of its own.
  EXPECT_EQ(optimizer(R"("type": "AdamW", "params": {"torch_adam": true})").weight_decay, 0.01);
  EXPECT_EQ(optimizer(R"("type": "AdamW", "params": {"torch_adam": true, "weight_decay": 0})").weight_decay,
            0.0);
  EXPECT_EQ(optimizer(R"("type": "Adam", "params": {"torch_adam": true, "adam_w_mode": false})").weight_decay,
            0.0);
  EXPECT_EQ(optimizer(R"("type": "Lion")").lr, 1e-4);
  EXPECT_EQ(optimizer(R"("type": "Lion")").betas[1], 0.99);
  EXPECT_EQ(optimizer(R"("type": "Adagrad")").kind, OptimizerKind::kAdagrad);
  EXPECT_EQ(optimizer(R"("type": "adagrad")").lr, 1e-2);
  EXPECT_EQ(optimizer(R"("type": "Adagrad")").eps, 1e-10);
  EXPECT_EQ(optimizer(R"("type": "SGD", "params": {"lr": 1, "momentum": 0.9, "dampening": 0.1})").dampening,
            0.1);

  const Config without_type = parse_members(R"("optimizer": {"params": {"lr": 0.1}})");
  EXPECT_FALSE(without_type.optimizer.has_value());
  EXPECT_THAT(without_type.warnings, ElementsAre(HasSubstr("optimizer: has no type")));
}

TEST(Config, RefusesWrongOptimizers) {
  const auto refusal = [](const std::string& members) {
    return refusal_of([&] { parse_members(R"("optimizer": {)" + members + "}"); });
  };
  EXPECT_EQ(refusal(R"("type": "Lamb")").code, ErrorCode::kUnsupported);
  EXPECT_THAT(refusal(R"("type": "Lamb")").message,
              HasSubstr("optimizer.type: Lamb is not in this version of DeepScale; use Adam"));
  EXPECT_THAT(refusal(R"("type": "AdmaW")").message, HasSubstr("Did you mean \"AdamW\"?"));
  EXPECT_THAT(refusal(R"("type": "Adam", "params": {"learning_rate": 1})").message,
              HasSubstr("optimizer.params.learning_rate: unknown key"));
  EXPECT_THAT(refusal(R"("type": "Adam", "params": {"momentum": 0.9})").message, HasSubstr("unknown key"));
  EXPECT_THAT(refusal(R"("type": "Adam", "params": {"betas": [0.9]})").message,
              HasSubstr("betas: expected two numbers, got [0.9]"));
  EXPECT_THAT(refusal(R"("type": "Adam", "params": {"betas": 0.9})").message,
              HasSubstr("betas: expected a list"));
  EXPECT_THAT(refusal(R"("type": "Adam", "params": {"betas": [0.9, 1]})").message,
              HasSubstr("betas[1]: expected a number below 1"));
  EXPECT_THAT(refusal(R"("type": "Adam", "params": {"amsgrad": true})").message,
              HasSubstr("AMSGrad is not in this version"));
  EXPECT_THAT(refusal(R"("type": "SGD", "params": {"nesterov": true})").message,
              HasSubstr("nesterov needs a momentum"));
}

TEST(Config, ReadsSchedulers) {
  const auto scheduler = [](const std::string& members, const ConfigContext& context = {}) {
    return parse_members(R"("scheduler": {)" + members + "}", context).scheduler;
  };
  EXPECT_FALSE(scheduler(R"("type": "WarmupLR")").warmup_max_lr.has_value());
  EXPECT_EQ(scheduler(R"("type": "WarmupDecayLR", "params": {"total_num_steps": 10})").warmup_max_lr, 1e-3);
  EXPECT_TRUE(scheduler(R"("type": "WarmupLR", "params": {"warmup_type": "linear"})").warmup_linear);
  EXPECT_EQ(scheduler(R"("type": "WarmupCosineLR", "params": {"total_num_steps": 1e4})").total_num_steps,
            10'000);
  // Unanswered, "auto" is the optimizer's own learning rate.
  const std::string automatic =
      R"("type": "WarmupDecayLR", "params": {"total_num_steps": 9, "warmup_max_lr": "auto"})";
  EXPECT_FALSE(scheduler(automatic).warmup_max_lr.has_value());
  ConfigContext context;
  context.lr = 0.25;
  EXPECT_EQ(scheduler(automatic, context).warmup_max_lr, 0.25);
}

TEST(Config, RefusesWrongSchedulers) {
  const auto message = [](const std::string& members) {
    return message_of_members(R"("scheduler": {)" + members + "}");
  };
  EXPECT_THAT(message(R"("type": "WarmupLr2")"), HasSubstr("scheduler.type: expected one of WarmupLR"));
  EXPECT_THAT(message(R"("type": "WarmupLR", "params": {"total_num_steps": 10})"),
              HasSubstr("scheduler.params.total_num_steps: unknown key"));
  EXPECT_THAT(message(R"("type": "WarmupLR", "params": {"warmup_type": "cosine"})"),
              HasSubstr("warmup_type: expected one of log, linear"));
  EXPECT_THAT(message(R"("type": "WarmupCosineLR")"), HasSubstr("total_num_steps: is required"));
  EXPECT_THAT(message(R"("type": "WarmupDecayLR", "params": {"total_num_steps": "auto"})"),
              HasSubstr("total_num_steps: is \"auto\", and the program does not know it"));
  EXPECT_THAT(message(R"("type": "OneCycle", "params": {"cycle_min_lr": 0.1})"),
              HasSubstr("cycle_max_lr: is required"));
  EXPECT_THAT(message(R"("type": "LRRangeTest", "params": {"lr_range_test_step_size": 0})"),
              HasSubstr("expected at least 1, got 0"));
}

TEST(Config, WarnsOfOffloadedParametersThatAreNotSharded) {
  for (const char* members : {R"("zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}})",
                              R"("zero_optimization": {"stage": 1, "cpu_offload_param": true})"}) {
    EXPECT_THAT(parse_members(members).warnings,
                Contains(HasSubstr("zero_optimization: offload_param has no effect below stage 3")));
  }
  EXPECT_THAT(
      parse_members(R"("zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}})").warnings,
      IsEmpty());
}

TEST(Config, RefusesOffloadToADriveWithoutItsPath) {
  EXPECT_THAT(message_of_members(R"("zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}})"),
              HasSubstr("zero_optimization.offload_param: device \"nvme\" needs an nvme_path"));
  EXPECT_THAT(message_of_members(R"("zero_optimization": {"offload_optimizer": {"device": "gpu"}})"),
              HasSubstr("offload_optimizer.device: expected one of none, cpu, nvme, got \"gpu\""));
}

TEST(Config, RefusesAnImpossibleContext) {
  ConfigContext context;
  context.data_parallel_world_size = 0;
  EXPECT_THAT(message_of(R"({"train_batch_size": 1})", context), HasSubstr("data_parallel_world_size"));
  context = {};
  context.hidden_size = 4'000'000'000;  // its square would not fit
  EXPECT_THAT(message_of(R"({"train_batch_size": 1})", context), HasSubstr("hidden_size"));
}

}  // namespace
}  // namespace deepscale
