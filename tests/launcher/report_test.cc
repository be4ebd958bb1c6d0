#include "launcher/report/environment_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

const EnvironmentReport kReport = {
    {"features", {{"tcp", "always", true, true, ""}, {"nccl", "no library", false, false, "install NCCL"}}},
    {"machine", {{"cores", "2", std::nullopt, std::nullopt, ""}}}};

TEST(EnvironmentReport, ReadsAsTextWithRemediesAtTheEnd) {
  const std::string text = report_text(kReport);
  EXPECT_THAT(text, HasSubstr("tcp .................... [YES] ...... [OKAY]  always\n"
                              "nccl ................... [NO] ....... [NO]    no library\n"));
  EXPECT_THAT(text, HasSubstr("cores .................. 2\n"));
  EXPECT_THAT(text, HasSubstr("nccl: install NCCL\n"));
  EXPECT_THAT(report_text({}), HasSubstr("nothing\n"));
}

TEST(EnvironmentReport, ReadsAsJson) {
  const auto json = nlohmann::json::parse(report_json(kReport));
  EXPECT_EQ(json["features"]["tcp"]["usable"], true);
  EXPECT_EQ(json["features"]["nccl"]["remedy"], "install NCCL");
  EXPECT_EQ(json["machine"]["cores"]["value"], "2");
}

}  // namespace
}  // namespace deepscale::testing
