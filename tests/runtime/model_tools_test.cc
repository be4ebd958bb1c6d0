// deepscale-model: a checkpoint of several ranks comes together as it was, and estimates follow the formula.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/checkpoint/model_folder.h"
#include "runtime/checkpoint/model_writer.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/tools/consolidate.h"
#include "runtime/tools/estimate.h"
#include "runtime/tools/options.h"
#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using testing::Refusal;
using testing::refusal_of;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

std::vector<float> counting(std::size_t numel, float first) {
  std::vector<float> values(numel);
  std::iota(values.begin(), values.end(), first);
  return values;
}

std::vector<float> floats_of(SafetensorsReader& reader, const std::string& name) {
  std::vector<float> values(static_cast<std::size_t>(reader.entries().at(name).bytes) / sizeof(float));
  reader.read(name, values.data());
  return values;
}

// "weight" [4, 5] counts from 0 and "bias" [3] from 100, over two ranks; a frozen and a buffer tensor.
void write_checkpoint(const fs::path& directory, const std::string& tag) {
  const std::vector<float> weight = counting(20, 0.0F), bias = counting(3, 100.0F), moments(20);
  const std::vector<std::uint16_t> bf16 = {0x3f80, 0xc000};  // 1, -2
  const std::int64_t counter = 7;
  fs::create_directories(directory / tag);
  CheckpointIndex index;
  index.files = {checkpoint_file_name(1, 0), checkpoint_file_name(1, 1)};
  index.parameters = {{"weight", {4, 5}}, {"bias", {3}}};
  index.frozen_parameters = {{"base", {2}}};
  write_safetensors(directory / tag / index.files[0], {{"weight/master@0", "F32", {13}, weight.data()},
                                                       {"weight/exp_avg@0", "F32", {13}, moments.data()},
                                                       {"base/frozen@0", "BF16", {1}, bf16.data()},
                                                       {"buffer/steps", "I64", {}, &counter}});
  write_safetensors(directory / tag / index.files[1], {{"weight/master@13", "F32", {7}, weight.data() + 13},
                                                       {"bias/master@0", "F32", {3}, bias.data()},
                                                       {"base/frozen@1", "BF16", {1}, bf16.data() + 1}});
  commit_checkpoint(directory, tag, index);
}

TEST(ZeroToFp32, PutsTheShardsTogether) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path() / "saved", "global_step3");
  const Consolidated made =
      consolidate({.checkpoint = folder.path() / "saved", .output = folder.path() / "out"});
  EXPECT_EQ(made.tag, "global_step3");
  EXPECT_EQ(made.files, 1);
  SafetensorsReader reader(folder.path() / "out" / "model.safetensors");
  EXPECT_EQ(reader.entries().size(), 4U);
  EXPECT_EQ(reader.entries().at("weight").shape, (std::vector<std::int64_t>{4, 5}));
  EXPECT_EQ(floats_of(reader, "weight"), counting(20, 0.0F));
  EXPECT_EQ(floats_of(reader, "bias"), counting(3, 100.0F));
  EXPECT_EQ(floats_of(reader, "base"), (std::vector<float>{1.0F, -2.0F}));
  std::int64_t counter = 0;
  reader.read("steps", &counter);
  EXPECT_EQ(counter, 7);
}

TEST(ZeroToFp32, SplitsByShardSizeWithAnIndexThatNamesEveryTensor) {
  const TemporaryFolder folder;
  write_checkpoint(folder.path(), "t");
  const std::string out = (folder.path() / "out").string();
  EXPECT_THAT(consolidate_text({folder.path().string(), out, "--max-shard-size=92B", "-t", "t"}),
              HasSubstr("in 2 files"));
  const auto files = weight_files(out);
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].filename(), "model-00001-of-00002.safetensors");
  EXPECT_EQ(measure_model_folder(out).numel(), 20 + 3 + 2 + 1);
  // The next one is smaller and leaves nothing of this one.
  consolidate_text({folder.path().string(), out, "--exclude_frozen_parameters"});
  EXPECT_EQ(weight_files(out).size(), 1U);
  EXPECT_EQ(std::distance(fs::directory_iterator(out), fs::directory_iterator()), 1);
  EXPECT_EQ(SafetensorsReader(fs::path(out) / "model.safetensors").entries().count("base"), 0U);
}

TEST(ZeroToFp32, NamesWhatIsMissingOrDamagedAndLeavesTheOutput) {
  const TemporaryFolder folder;
  const ConsolidateOptions options = {.checkpoint = folder.path() / "saved", .output = folder.path() / "out"};
  EXPECT_THAT(refusal_of([&] { consolidate(options); }).message, HasSubstr("latest"));
  write_checkpoint(options.checkpoint, "t");
  consolidate(options);
  const fs::path second = options.checkpoint / "t" / checkpoint_file_name(1, 1);
  {
    std::fstream file(second, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-2, std::ios::end);
    file.put('x');
  }
  const Refusal damaged = refusal_of([&] { consolidate(options); });
  EXPECT_EQ(damaged.code, ErrorCode::kProtocol);
  EXPECT_THAT(damaged.message, HasSubstr(second.filename().string()));
  fs::remove(second);
  EXPECT_THAT(refusal_of([&] { consolidate(options); }).message, HasSubstr(second.filename().string()));
  SafetensorsReader reader(options.output / "model.safetensors");
  EXPECT_EQ(floats_of(reader, "bias"), counting(3, 100.0F)) << "the output is still the former one";
  EXPECT_EQ(std::distance(fs::directory_iterator(options.output), fs::directory_iterator()), 1);
}

TEST(Estimate, GivesTheFormulaForEveryStageAndOffloading) {
  const TemporaryFolder folder;
  folder.write("config.json", R"({"model_type": "llama", "hidden_size": 4096, "vocab_size": 32000,
      "num_attention_heads": 32, "num_hidden_layers": 32, "intermediate_size": 11008})");
  const std::string path = folder.path().string();
  const auto json = nlohmann::json::parse(estimate_text({"--model", path, "--num-gpus=8", "--json"}));
  EXPECT_EQ(json["parameters"], 6'738'415'616);
  EXPECT_EQ(json["largest_layer"], 32000 * 4096);
  const std::int64_t numel = 6'738'415'616;
  const auto& rows = json["estimates"];
  ASSERT_EQ(rows.size(), 8U);
  EXPECT_EQ(rows[0]["device_bytes_of_a_rank"], 16 * numel);
  EXPECT_EQ(rows[3]["stage"], 2);
  EXPECT_EQ(rows[3]["device_bytes_of_a_rank"], 2 * numel + 14 * numel / 8);
  EXPECT_EQ(rows[4]["offload"], "optimizer");
  EXPECT_EQ(rows[4]["device_bytes_of_a_rank"], 2 * numel + 2 * numel / 8);
  EXPECT_EQ(rows[4]["host_bytes_of_a_node"], 12 * numel);
  EXPECT_EQ(rows[7]["offload"], "optimizer, param");
  EXPECT_EQ(rows[7]["device_bytes_of_a_rank"], 2 * numel / 8 + 2 * 1'000'000'000) << "and what is gathered";
  EXPECT_EQ(rows[7]["host_bytes_of_a_node"], 14 * numel);
  EXPECT_THAT(estimate_text({path, "--dtype", "fp32"}), HasSubstr("6,738,415,616 parameters"));
  const auto device_bytes_at_stage1 = [&](const char* micro_batches) {
    return nlohmann::json::parse(
        estimate_text({"--model", path, "--num-gpus=8", "--json", "--gradient_accumulation_steps",
                       micro_batches}))["estimates"][1]["device_bytes_of_a_rank"];
  };
  EXPECT_EQ(device_bytes_at_stage1("1"), 2 * numel + 14 * numel / 8);
  EXPECT_EQ(device_bytes_at_stage1("4"), 4 * numel + 12 * numel / 8);
}

TEST(Estimate, RefusesAWrongCommandLineInOneSentence) {
  EXPECT_THAT(refusal_of([] { estimate_text({}); }).message, HasSubstr("which model?"));
  EXPECT_THAT(refusal_of([] {
                estimate_text({"m", "--num_gpu", "2"});
              }).message,
              HasSubstr("unknown option --num_gpu. Did you mean \"num_gpus\"?"));
  EXPECT_THAT(refusal_of([] { estimate_text({"m", "--num_gpus", "0"}); }).message, HasSubstr("\"0\""));
  EXPECT_THAT(refusal_of([] { estimate_text({"m", "--num_gpus"}); }).message, HasSubstr("needs a value"));
  EXPECT_THAT(refusal_of([] { estimate_text({"m", "--json=1"}); }).message, HasSubstr("is a switch"));
}

TEST(ToolOptions, ReadsSizesAsTransformersDoes) {
  const auto bytes = [](const std::string& text) {
    return ToolOptions({"--size", text}, {.with_value = {"size"}}).bytes("size", 0);
  };
  EXPECT_EQ(bytes("5GB"), 5'000'000'000);
  EXPECT_EQ(bytes("1.5KiB"), 1536);
  EXPECT_EQ(bytes("200"), 200);
  for (const char* wrong : {"", "GB", "5XB", "-1GB", "0", "nan", "1e300GB"})
    EXPECT_EQ(refusal_of([&] { bytes(wrong); }).code, ErrorCode::kInvalidArgument) << wrong;
}

}  // namespace
}  // namespace deepscale
