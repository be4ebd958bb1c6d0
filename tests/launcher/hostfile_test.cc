#include "launcher/job/hostfile.h"

#include <numeric>

#include "tests/launcher/expect_error.h"

namespace deepscale::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<Host> kHosts = {{"a", {0, 1, 2, 3}}, {"b", {0, 1}}, {"c", {0, 1, 2}}};

std::string complaint(const std::string& text) {
  return message_of([&] { parse_hostfile(text, "my/hosts"); });
}

TEST(Hostfile, ReadsHostsInOrder) {
  EXPECT_THAT(
      parse_hostfile("# cluster\n\nworker-2 slots=4\n  worker-1\tslots=2 # old\r\nworker-3 slots=0\n", "f"),
      ElementsAre(Host{"worker-2", {0, 1, 2, 3}}, Host{"worker-1", {0, 1}}));
  EXPECT_THAT(parse_hostfile("\xEF\xBB\xBFonly slots=1", "f"), ElementsAre(Host{"only", {0}}));
}

TEST(Hostfile, AMistakeShowsFileLineTextAndGrammar) {
  EXPECT_EQ(complaint("a slots=1\nb slot=2\n"),
            "my/hosts:2: this line names no host and slots\n  b slot=2\n"
            "expected \"NAME slots=N\", for example \"worker-1 slots=4\"; # starts a comment");
  EXPECT_THAT(complaint("a slots=1\n\na slots=2"),
              HasSubstr("my/hosts:3: this host stands in the file already\n  a slots=2\n"));
  EXPECT_THAT(complaint("# nothing\n"), HasSubstr("names no host with a slot"));
  for (const char* line : {"a", "a slots=", "a slots=-1", "a slots=x", "a slots=99999999999999999999",
                           "slots=4", "a slots=4 b", "a slots=70000"}) {
    EXPECT_THAT(complaint(line), HasSubstr("my/hosts:1:")) << line;
  }
}

TEST(Hostfile, AMissingFileIsNamed) {
  EXPECT_THAT(message_of([] { read_hostfile("/no/such/file"); }),
              HasSubstr("hostfile /no/such/file cannot be read"));
  EXPECT_THAT(message_of([] { read_hostfile("/"); }), HasSubstr("is a folder"));
}

TEST(Filters, IncludeKeepsWhatIsNamed) {
  EXPECT_EQ(filter_hosts(kHosts, "", ""), kHosts);
  EXPECT_THAT(filter_hosts(kHosts, "c@a:3,1,1", ""), ElementsAre(Host{"a", {1, 3}}, Host{"c", {0, 1, 2}}));
  EXPECT_THAT(filter_hosts(kHosts, "b:0@b:1", ""), ElementsAre(Host{"b", {0, 1}}));
}

TEST(Filters, ExcludeDropsWhatIsNamed) {
  EXPECT_THAT(filter_hosts(kHosts, "", "b@a:0"), ElementsAre(Host{"a", {1, 2, 3}}, Host{"c", {0, 1, 2}}));
  EXPECT_THAT(filter_hosts(kHosts, "", "c:0,1,2"), ElementsAre(kHosts[0], kHosts[1]));
}

TEST(Filters, MistakesAreNamed) {
  const auto include = [](const std::string& filter) {
    return message_of([&] { filter_hosts(kHosts, filter, ""); });
  };
  EXPECT_EQ(message_of([] { filter_hosts(kHosts, "a", "b"); }),
            "--include and --exclude cannot be used together; keep one of them.");
  EXPECT_THAT(include("d"), HasSubstr("--include \"d\": no host is called \"d\"."));
  EXPECT_EQ(include("a:7"), "--include \"a:7\": host \"a\" has no slot 7; its 4 slots are 0 to 3.");
  EXPECT_THAT(include("a:x"), HasSubstr("\"x\" is not a slot number"));
  EXPECT_THAT(include("a:"), HasSubstr("\"\" is not a slot number"));
  EXPECT_THAT(include("a@@b"), HasSubstr("a host name is missing"));
  EXPECT_THAT(message_of([] { filter_hosts(kHosts, "", "a@b@c"); }), HasSubstr("leaves no slot"));
}

TEST(Filters, ANameThatIsNearlyRightIsSuggested) {
  EXPECT_THAT(message_of([] {
                filter_hosts({{"worker-1", {0}}}, "worker1", "");
              }),
              HasSubstr("Did you mean \"worker-1\"?"));
}

TEST(NumberList, TakesNumbersAndRanges) {
  EXPECT_THAT(parse_number_list("4,0-2,1", "--x"), ElementsAre(0, 1, 2, 4));
  for (const char* text : {"", "a", "1-", "-1", "3-1", "1,,2"}) {
    EXPECT_THAT(message_of([&] { parse_number_list(text, "--x"); }), HasSubstr("--x")) << text;
  }
}

// Found by filter_fuzz: each mention of a range took memory of its own, here 4 MB.
TEST(NumberList, ARangeThatIsNamedOftenCostsNoMore) {
  std::string text = "1-1048576";
  for (int i = 0; i < 10'000; ++i) text += ",1-1048576";
  EXPECT_EQ(parse_number_list(text, "--x").size(), 1048576U);
}

}  // namespace
}  // namespace deepscale::testing
