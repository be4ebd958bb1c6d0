// Safetensors files: what was written is read, damage is found, and hostile headers are refused by one Error.
#include "runtime/checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <functional>
#include <random>

#include "tests/refusal.h"
#include "tests/temporary_folder.h"

namespace deepscale {
namespace {

using ::testing::HasSubstr;
using testing::read_all;
using testing::Refusal;
using testing::refusal_of;
using testing::TemporaryFolder;

std::string with_header(const std::string& header, const std::string& data = "") {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i)
    bytes[static_cast<std::size_t>(i)] = static_cast<char>(header.size() >> (8 * i));
  return bytes + header + data;
}

const std::array<float, 6> kValues = {1.5F, -2.0F, 0.0F, 3.0F, 4.0F, 5.0F};
const std::array<std::int64_t, 2> kNumbers = {7, -9};

std::filesystem::path write_example(const TemporaryFolder& folder) {
  const auto path = folder.path() / "example.safetensors";
  write_safetensors(path, {{"weight", "F32", {2, 3}, kValues.data()},
                           {"größe/@\"x\"", "I64", {2}, kNumbers.data()},
                           {"empty", "BF16", {0, 4}, nullptr}});
  return path;
}

TEST(Safetensors, ReadsWhatWasWritten) {
  const TemporaryFolder folder;
  SafetensorsReader reader(write_example(folder));
  ASSERT_EQ(reader.entries().size(), 3U);
  EXPECT_EQ(reader.entries().at("weight").dtype, "F32");
  EXPECT_EQ(reader.entries().at("weight").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(reader.entries().at("empty").bytes, 0);
  std::array<std::int64_t, 2> numbers{};
  reader.read("größe/@\"x\"", numbers.data());
  EXPECT_EQ(numbers, kNumbers);
  std::array<float, 6> values{};
  reader.read("weight", values.data());
  EXPECT_EQ(values, kValues);
  EXPECT_EQ(refusal_of([&] { reader.read("bias", values.data()); }).code, ErrorCode::kNotFound);
}

TEST(Safetensors, EveryFlippedBitOfATensorIsFound) {
  const TemporaryFolder folder;
  const std::string bytes = read_all(write_example(folder));
  for (std::size_t i = bytes.size() - 40; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 4);
    SafetensorsReader reader(folder.write("damaged", damaged));
    std::array<float, 6> values{};
    std::array<std::int64_t, 2> numbers{};
    const Refusal error = refusal_of([&] {
      reader.read("weight", values.data());
      reader.read("größe/@\"x\"", numbers.data());
    });
    EXPECT_EQ(error.code, ErrorCode::kProtocol) << i;
    EXPECT_THAT(error.message, HasSubstr("checksum")) << i;
  }
}

TEST(Safetensors, ACutFileIsRefused) {
  const TemporaryFolder folder;
  const std::string bytes = read_all(write_example(folder));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto path = folder.write("cut", std::string_view(bytes).substr(0, size));
    EXPECT_EQ(refusal_of([&] { SafetensorsReader reader(path); }).code, ErrorCode::kProtocol) << size;
  }
}

TEST(Safetensors, HostileHeadersAreRefused) {
  const TemporaryFolder folder;
  for (const std::string& bytes : {
           with_header("[]"),
           with_header("{"),
           with_header(R"({"a": 1})"),
           with_header(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", "1234"),
           with_header(R"({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}})", "1234"),
           with_header(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}})", "1234"),
           with_header(R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}})", "1234"),
           with_header(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}})", "1234"),
           with_header(
               R"({"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 4]}})",
               "1234"),
           with_header(R"({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}})", "1234"),
           with_header(R"({"a": {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]},
                           "b": {"dtype": "I16", "shape": [1], "data_offsets": [3, 5]}})",
                       "12345"),
           std::string(8, '\xff') + "{}",
       }) {
    const auto path = folder.write("hostile", bytes);
    const Refusal error = refusal_of([&] { SafetensorsReader reader(path); });
    EXPECT_EQ(error.code, ErrorCode::kProtocol) << bytes;
    EXPECT_THAT(error.message, HasSubstr("hostile"));
  }
}

TEST(Safetensors, ReadsEveryTypeOfTheFormat) {
  const TemporaryFolder folder;
  const std::vector<std::pair<std::string, std::int64_t>> types = {
      {"BOOL", 4}, {"U8", 4},   {"I8", 4},   {"F8_E4M3", 4}, {"F8_E5M2", 4}, {"F8_E8M0", 4}, {"I16", 8},
      {"U16", 8},  {"F16", 8},  {"BF16", 8}, {"I32", 16},    {"U32", 16},    {"F32", 16},    {"I64", 32},
      {"U64", 32}, {"F64", 32}, {"C64", 32}, {"F4", 2},      {"F6_E2M3", 3}, {"F6_E3M2", 3}};
  const std::string data(64, 'x');
  std::vector<StoredTensor> tensors;
  for (const auto& [type, bytes] : types) tensors.push_back({type, type, {2, 2}, data.data()});
  write_safetensors(folder.path() / "types", tensors);
  const SafetensorsReader reader(folder.path() / "types");
  for (const auto& [type, bytes] : types) EXPECT_EQ(reader.entries().at(type).bytes, bytes) << type;
}

TEST(Safetensors, AWriterForOthersWritesTensorByTensor) {
  const TemporaryFolder folder;
  {
    SafetensorsWriter writer(folder.path() / "model", {{"a", "F32", {2, 3}}, {"b", "I64", {2}}},
                             {{"format", "pt"}});
    writer.append(kValues.data());
    EXPECT_EQ(refusal_of([&] { writer.finish(); }).code, ErrorCode::kInternal);
    writer.append(kNumbers.data());
    writer.finish();
  }
  const SafetensorsReader reader(folder.path() / "model");
  EXPECT_EQ(reader.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(reader.entries().at("b").checksum, "");
  std::array<std::int64_t, 2> numbers{};
  reader.read("b", numbers.data());
  EXPECT_EQ(numbers, kNumbers);
}

TEST(Safetensors, WhatIsWrittenToAMappingStaysInMemory) {
  const TemporaryFolder folder;
  const auto path = write_example(folder);
  const std::string before = read_all(path);
  {
    const SafetensorsReader reader(path);
    reader.bytes_of(reader.entries().at("weight"))[0] = std::byte{99};
    EXPECT_EQ(reader.bytes_of(reader.entries().at("weight"))[0], std::byte{99});
  }
  EXPECT_EQ(read_all(path), before);
}

TEST(Safetensors, RandomBytesNeverDoMoreThanThrow) {
  const TemporaryFolder folder;
  const std::string bytes = read_all(write_example(folder));
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = bytes;
    for (unsigned flips = 1 + random() % 4; flips > 0; --flips)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    const auto path = folder.write("random", damaged);
    try {
      SafetensorsReader reader(path);
      for (const auto& [name, entry] : reader.entries()) {
        std::vector<char> values(static_cast<std::size_t>(entry.bytes));
        reader.read(name, values.data());
      }
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace deepscale
