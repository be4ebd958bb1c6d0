// What only Windows has: handles that are inherited, statuses of the system, names beyond the code page.
#include <windows.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "agents/process/child_process.h"
#include "comm/base/text_encoding_windows.h"
#include "tests/agents/child_run.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

// The child once inherited every inheritable handle of ours, and so held the sockets of the store.
TEST(ChildProcessOnWindows, InheritsNothingButItsStandardHandles) {
  SECURITY_ATTRIBUTES inheritable = {sizeof inheritable, nullptr, TRUE};
  HANDLE read_end = nullptr;
  HANDLE write_end = nullptr;
  ASSERT_TRUE(CreatePipe(&read_end, &write_end, &inheritable, 0));
  ChildRun run(child_options({"out=ready\n", "hang"}));
  ASSERT_TRUE(run.wait_for_output("ready"));
  CloseHandle(write_end);
  DWORD available = 0;
  EXPECT_FALSE(PeekNamedPipe(read_end, nullptr, 0, nullptr, &available, nullptr));
  EXPECT_EQ(GetLastError(), static_cast<DWORD>(ERROR_BROKEN_PIPE)) << "the child holds our pipe";
  CloseHandle(read_end);
  run.process->kill();
  EXPECT_TRUE(run.finish());
}

TEST(ChildProcessOnWindows, NamesTheStatusOfACrash) {
  ChildRun run(child_options({"crash"}));
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status->how, ExitStatus::How::kCrashed);
  EXPECT_EQ(run.status->text(), "crashed with 0xC0000005 (access violation)");
}

TEST(ChildProcessOnWindows, StartsAProgramWhoseNameNoCodePageHas) {
  const TemporaryFolder folder;
  const std::string name =
      "\xE6\xB7\xB1\xE3\x81\x84 \xC3\xBC\xC3\xB1\xC3\xAE";  // "deep" in Japanese, and accents
  const std::filesystem::path place = folder.path() / std::filesystem::path(to_wide(name));
  std::filesystem::create_directories(place);
  const auto program = place / std::filesystem::path(to_wide(name + ".exe"));
  std::filesystem::copy_file(DEEPSCALE_TEST_CHILD, program);
  auto options = child_options({"exit=7"});
  options.program = to_utf8(program.wstring());
  options.working_directory = to_utf8(place.wstring());
  ChildRun run(std::move(options));
  ASSERT_TRUE(run.finish());
  EXPECT_EQ(run.status->code, 7);
}

}  // namespace
}  // namespace deepscale::testing
