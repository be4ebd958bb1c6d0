// Saves one version after another until it is killed: saving_program DIRECTORY. Its ranks are threads of
// CheckpointSavers; every second save goes to the same tag, every third one is large. Says "saved N" once
// version N is there.
#include <cstdio>
#include <exception>

#include "tests/runtime/saved_versions.h"

namespace deepscale::testing {
namespace {

void save_for_ever(const std::filesystem::path& directory) {
  CheckpointSaver savers[kSavingRanks];
  for (std::int64_t version = latest_version(directory) + 1;; ++version) {
    const std::string tag = version % 2 == 0 ? "same" : "version_" + std::to_string(version);
    for (int rank = kSavingRanks; rank-- > 0;) {
      CheckpointPart part = part_of_version(directory, tag, version, rank, version % 3 == 0 ? kMany : kFew);
      part.keep_last = 3;
      save_and_go_on(savers[rank], std::move(part));
    }
    savers[0].wait();
    std::printf("saved %lld\n", static_cast<long long>(version));
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace deepscale::testing

int main(int argc, char** argv) {
  try {
    if (argc == 2) deepscale::testing::save_for_ever(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 1;
}
