#include "launcher/report/environment_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/report/operators.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const EnvironmentReport kReport = {
    {"ops", {{"async_io", "io_uring", true, true, ""}, {"cuda", "no GPU", true, false, ""}}},
    {"backends", {{"nccl", "no library", false, false, "install NCCL"}}},
    {"machine", {{"cores", "2", std::nullopt, std::nullopt, ""}}}};

TEST(EnvironmentReport, HasTheLayoutOfDsReport) {
  const std::string text = report_text(kReport);
  EXPECT_THAT(text, HasSubstr("op name ................ installed .. compatible\n"));
  EXPECT_THAT(text, HasSubstr("async_io ............... [YES] ...... [OKAY]  io_uring\n"
                              "cuda ................... [YES] ...... [NO]    no GPU\n"));
  EXPECT_THAT(text, HasSubstr("backend name ........... installed .. compatible\n"));
  EXPECT_THAT(text, HasSubstr("nccl ................... [NO] ....... [NO]    no library\n"));
  EXPECT_THAT(text, HasSubstr("machine:\n"));
  EXPECT_THAT(text, HasSubstr("cores ............................ 2\n"));
  EXPECT_THAT(text, HasSubstr("nccl: install NCCL\n"));
}

TEST(EnvironmentReport, SaysThatNothingIsMissing) {
  EXPECT_THAT(report_text({kReport.back()}), HasSubstr("nothing\n"));
  EXPECT_THAT(report_text(kReport), Not(HasSubstr("nothing\n")));
}

TEST(EnvironmentReport, ReadsAsJson) {
  const auto json = nlohmann::json::parse(report_json(kReport));
  EXPECT_EQ(json["ops"]["async_io"]["compatible"], true);
  EXPECT_EQ(json["backends"]["nccl"]["installed"], false);
  EXPECT_EQ(json["backends"]["nccl"]["remedy"], "install NCCL");
  EXPECT_EQ(json["machine"]["cores"]["value"], "2");
}

TEST(EnvironmentReport, WhatIsNotInstalledIsNotCompatible) {
  for (const bool has_gpu : {false, true}) {
    for (const ReportSection& section : operator_sections(has_gpu)) {
      for (const ReportEntry& entry : section.entries) {
        ASSERT_TRUE(entry.is_installed && entry.is_compatible) << entry.name;
        EXPECT_TRUE(*entry.is_installed || !*entry.is_compatible) << entry.name;
      }
    }
  }
}

TEST(EnvironmentReport, TellsOfTheMachineItRunsOn) {
  const auto json = nlohmann::json::parse(report_json(collect_environment_report()));
  for (const char* name : {"single", "shm", "tcp"}) EXPECT_EQ(json["backends"][name]["compatible"], true);
  EXPECT_NE(json["DeepScale general environment info"]["deepscale install path"]["value"], "");
  EXPECT_THAT(report_text(collect_environment_report()), HasSubstr("\nshared memory ("));
}

}  // namespace
}  // namespace deepscale::testing
