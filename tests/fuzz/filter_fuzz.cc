// Any bytes as --include, as --exclude, and as a list of numbers: slots of the hosts that are there, or an
// Error; nothing else.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "comm/base/error.h"
#include "launcher/job/hostfile.h"
#include "tests/fuzz/require.h"

namespace deepscale::testing {
namespace {

const std::vector<Host> kHosts = {
    {"a", {0, 1, 2, 3}}, {"b", {0, 1}}, {"worker-1", {0, 1, 2, 3, 4, 5, 6, 7}}, {"10.0.0.3", {0}}};

// Nothing: it was refused.
std::optional<std::vector<Host>> filtered(const std::string& include, const std::string& exclude) {
  try {
    return filter_hosts(kHosts, include, exclude);
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool has_slot(const std::vector<Host>& hosts, const std::string& name, int slot) {
  const auto found =
      std::find_if(hosts.begin(), hosts.end(), [&](const Host& host) { return host.name == name; });
  return found != hosts.end() && std::binary_search(found->slots.begin(), found->slots.end(), slot);
}

// What one of the two keeps the other drops. Everything excluded is refused, so that one may be missing.
void compare(const std::vector<Host>& included, const std::optional<std::vector<Host>>& excluded) {
  require(!included.empty(), "something is included");
  std::size_t kept = 0;
  for (const Host& host : included) kept += host.slots.size();
  for (const Host& host : excluded.value_or(std::vector<Host>())) kept += host.slots.size();
  std::size_t all = 0;
  for (const Host& host : kHosts) {
    all += host.slots.size();
    for (const int slot : host.slots) {
      const bool is_excluded = !excluded || !has_slot(*excluded, host.name, slot);
      require(has_slot(included, host.name, slot) == is_excluded, "include and exclude are opposites");
    }
  }
  require(kept == all, "no slot is invented");
}

void read_numbers(const std::string& text) {
  std::vector<int> numbers;
  try {
    numbers = parse_number_list(text, "fuzz");
  } catch (const Error&) {
    return;
  }
  require(!numbers.empty() && numbers.front() >= 0, "a list has a number");
  require(std::adjacent_find(numbers.begin(), numbers.end(), std::greater_equal<>()) == numbers.end(),
          "numbers ascend");
}

}  // namespace
}  // namespace deepscale::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace deepscale::testing;
  const std::string text(reinterpret_cast<const char*>(data), size);
  read_numbers(text);
  if (text.empty()) return 0;  // no filter
  const auto included = filtered(text, "");
  const auto excluded = filtered("", text);
  require(included || !excluded, "what may be excluded may be included");
  if (included) compare(*included, excluded);
  return 0;
}
