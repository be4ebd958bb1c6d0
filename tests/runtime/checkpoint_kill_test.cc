// Whoever is killed while saving, whenever: the checkpoint that was there before loads, or the new one does.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>

#include "tests/agents/child_run.h"
#include "tests/runtime/saved_versions.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

int kills() {
  const char* wanted = std::getenv("DEEPSCALE_KILLS");
  return wanted != nullptr ? std::atoi(wanted) : 12;
}

std::int64_t last_number(const std::string& output) {
  const std::size_t place = output.rfind("saved ");
  return place == std::string::npos ? 0 : std::atoll(output.c_str() + place + 6);
}

// What a kill left on the disk, so that a run shows which phases it met.
struct Traces {
  int incomplete_files = 0;
  int uncommitted_files = 0;
  int clean = 0;

  void look_at(const std::filesystem::path& directory) {
    int incomplete = 0, uncommitted = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
      if (entry.path().extension() == ".incomplete") ++incomplete;
      if (entry.path().extension() != ".safetensors") continue;
      std::ifstream index(entry.path().parent_path() / "checkpoint.json");
      const std::string text{std::istreambuf_iterator<char>(index), {}};
      if (text.find(entry.path().filename().string()) == std::string::npos) ++uncommitted;
    }
    incomplete_files += incomplete > 0;
    uncommitted_files += uncommitted > 0;
    clean += incomplete + uncommitted == 0;
  }
};

TEST(CheckpointKill, LeavesTheFormerCheckpointOrTheNewOne) {
  const TemporaryFolder folder;
  std::mt19937 random(20261126);
  std::int64_t told = 0;
  Traces traces;
  for (int kill = 0; kill < kills(); ++kill) {
    ChildProcess::Options options;
    options.program = DEEPSCALE_TEST_SAVING_PROGRAM;
    options.arguments = {folder.path().string()};
    options.environment = Environment::of_process();
    ChildRun run(std::move(options));
    ASSERT_TRUE(run.wait_for_output("saved ")) << run.error;
    const auto moment = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 30'000);
    run_until(run.io, [&] { return std::chrono::steady_clock::now() >= moment; });
    run.process->kill();
    ASSERT_TRUE(run.finish());
    told = std::max(told, last_number(run.out));
    std::int64_t version = 0;
    ASSERT_NO_THROW(version = latest_version(folder.path())) << "kill " << kill;
    EXPECT_GE(version, told) << "kill " << kill << ": what was reported as saved is gone";
    traces.look_at(folder.path());
  }
  ::testing::Test::RecordProperty("incomplete_files", traces.incomplete_files);
  ::testing::Test::RecordProperty("uncommitted_files", traces.uncommitted_files);
  std::printf("kills that left incomplete files: %d, files that were not committed: %d, neither: %d\n",
              traces.incomplete_files, traces.uncommitted_files, traces.clean);
}

}  // namespace
}  // namespace deepscale::testing
