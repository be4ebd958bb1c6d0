#include "comm/base/error.h"
#include "comm/store/rendezvous.h"

namespace deepscale {

namespace {
[[noreturn]] void fail() {
  throw Error(
      ErrorCode::kUnsupported,
      "on Windows the ranks of a job without 'deepscale launch' are told where to meet: set MASTER_ADDR "
      "(127.0.0.1 on one machine) and MASTER_PORT (any free port) to the same values on all ranks");
}
}  // namespace

std::filesystem::path rendezvous_file(StartedBy) {
  fail();
}

void publish_port(const std::filesystem::path&, int) {
  fail();
}

std::optional<int> published_port(const std::filesystem::path&) {
  fail();
}

}  // namespace deepscale
