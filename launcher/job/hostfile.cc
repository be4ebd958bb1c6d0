#include "launcher/job/hostfile.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "comm/base/error.h"
#include "comm/base/suggest.h"
#include "launcher/job/file_path.h"

namespace deepscale {
namespace {

constexpr int kMostSlots = 65536;  // of one host; more is a typing mistake, and would only cost memory
constexpr const char* kHostfileGrammar =
    "expected \"NAME slots=N\", for example \"worker-1 slots=4\"; # starts a comment";
constexpr const char* kFilterGrammar =
    "expected NAME[:SLOT[,SLOT]][@NAME...], for example worker-1@worker-2:0,2";

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::optional<int> parse_number(std::string_view text, int most) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = failure == std::errc() && end == text.data() + text.size();
  if (!whole || value < 0 || value > most) return std::nullopt;
  return value;
}

// Takes the text before `separator` off the front of `rest`.
std::string_view next_part(std::string_view& rest, char separator) {
  const auto end = rest.find(separator);
  const std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
  return part;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  const auto count = std::count(text.begin(), text.end(), separator) + 1;
  for (auto i = count; i > 0; --i) parts.push_back(next_part(text, separator));
  return parts;
}

// A line of a file that is no hostfile at all may hold anything.
std::string printable(std::string_view line) {
  constexpr std::size_t kMost = 120;
  std::string text(line.substr(0, kMost));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7F') c = '?';
  }
  return line.size() > kMost ? text + " ..." : text;
}

// "NAME slots=N", already without comment and outer spaces.
std::optional<Host> parse_host(std::string_view line) {
  const auto name_end = std::find_if(line.begin(), line.end(), is_space);
  const std::string_view name = line.substr(0, static_cast<std::size_t>(name_end - line.begin()));
  std::string_view rest = trimmed(line.substr(name.size()));
  constexpr std::string_view kSlots = "slots=";
  if (rest.substr(0, kSlots.size()) != kSlots) return std::nullopt;
  const std::optional<int> slots = parse_number(rest.substr(kSlots.size()), kMostSlots);
  if (!slots) return std::nullopt;
  Host host{std::string(name), std::vector<int>(static_cast<std::size_t>(*slots))};
  std::iota(host.slots.begin(), host.slots.end(), 0);
  return host;
}

[[noreturn]] void fail(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

std::vector<std::string> names_of(const std::vector<Host>& hosts) {
  std::vector<std::string> names;
  for (const Host& host : hosts) names.push_back(host.name);
  return names;
}

using HostIndex = std::unordered_map<std::string_view, std::size_t>;

// What a filter says about one host: which of its slots are named.
using NamedSlots = std::unordered_map<std::size_t, std::vector<int>>;

NamedSlots parse_filter(const std::string& option, const std::string& text, const std::vector<Host>& hosts) {
  HostIndex index;
  for (std::size_t i = 0; i < hosts.size(); ++i) index.emplace(hosts[i].name, i);
  NamedSlots named;
  for (std::string_view entry : split(text, '@')) {
    const std::string where = fmt::format("{} \"{}\"", option, text);
    std::string_view slots = trimmed(entry);
    const bool has_slots = slots.find(':') != std::string_view::npos;
    const std::string_view name = trimmed(next_part(slots, ':'));
    if (name.empty()) fail(fmt::format("{}: a host name is missing; {}.", where, kFilterGrammar));
    const auto found = index.find(name);
    if (found == index.end()) {
      fail(fmt::format("{}: no host is called \"{}\".{}", where, name, did_you_mean(name, names_of(hosts))));
    }
    const Host& host = hosts[found->second];
    std::vector<int>& chosen = named[found->second];
    if (!has_slots) chosen.insert(chosen.end(), host.slots.begin(), host.slots.end());
    for (std::string_view slot_text : has_slots ? split(slots, ',') : std::vector<std::string_view>()) {
      const std::optional<int> slot = parse_number(trimmed(slot_text), kMostSlots);
      if (!slot) fail(fmt::format("{}: \"{}\" is not a slot number; {}.", where, slot_text, kFilterGrammar));
      if (!std::binary_search(host.slots.begin(), host.slots.end(), *slot)) {
        fail(fmt::format("{}: host \"{}\" has no slot {}; its {} slots are {} to {}.", where, name, *slot,
                         host.slots.size(), host.slots.front(), host.slots.back()));
      }
      chosen.push_back(*slot);
    }
  }
  for (auto& [host, slots] : named) {
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  }
  return named;
}

}  // namespace

std::vector<Host> parse_hostfile(std::string_view text, const std::string& file_name) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) text.remove_prefix(kByteOrderMark.size());
  std::vector<Host> hosts;
  std::unordered_set<std::string> seen;
  for (int line_number = 1; !text.empty(); ++line_number) {
    const std::string_view line = next_part(text, '\n');
    const std::string_view content = trimmed(line.substr(0, line.find('#')));
    if (content.empty()) continue;
    const auto complain = [&](std::string_view what) {
      fail(fmt::format("{}:{}: {}\n  {}\n{}", file_name, line_number, what, printable(trimmed(line)),
                       kHostfileGrammar));
    };
    std::optional<Host> host = parse_host(content);
    if (!host) complain("this line names no host and slots");
    if (!seen.insert(host->name).second) complain("this host stands in the file already");
    if (!host->slots.empty()) hosts.push_back(std::move(*host));
  }
  if (hosts.empty())
    fail(fmt::format("{}: the file names no host with a slot; {}", file_name, kHostfileGrammar));
  return hosts;
}

std::vector<Host> read_hostfile(const std::string& path) {
  std::error_code failure;
  const bool is_folder = std::filesystem::is_directory(to_path(path), failure);
  std::ifstream file(to_path(path), std::ios::binary);
  if (is_folder || !file) {
    fail(fmt::format("hostfile {} {}. Check the path, or leave --hostfile out to run on this machine.", path,
                     is_folder ? "is a folder" : "cannot be read"));
  }
  return parse_hostfile(std::string(std::istreambuf_iterator<char>(file), {}), path);
}

std::vector<Host> filter_hosts(std::vector<Host> hosts, const std::string& include,
                               const std::string& exclude) {
  if (!include.empty() && !exclude.empty())
    fail("--include and --exclude cannot be used together; keep one of them.");
  if (include.empty() && exclude.empty()) return hosts;
  const bool keep_named = !include.empty();
  const NamedSlots named =
      parse_filter(keep_named ? "--include" : "--exclude", keep_named ? include : exclude, hosts);
  std::vector<Host> chosen;
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    Host host = std::move(hosts[i]);
    const auto found = named.find(i);
    const std::vector<int> slots = found == named.end() ? std::vector<int>() : found->second;
    std::erase_if(host.slots, [&](int slot) {
      return std::binary_search(slots.begin(), slots.end(), slot) != keep_named;
    });
    if (!host.slots.empty()) chosen.push_back(std::move(host));
  }
  if (chosen.empty()) fail(fmt::format("--exclude \"{}\" leaves no slot on any host to run on.", exclude));
  return chosen;
}

std::vector<int> parse_number_list(std::string_view text, const std::string& what) {
  constexpr int kMost = 1 << 20;
  std::vector<bool> is_named(kMost + 1);  // ranges may overlap: what one text can cost is bounded
  for (std::string_view part : split(text, ',')) {
    std::string_view last = trimmed(part);
    const std::string_view first = next_part(last, '-');
    const std::optional<int> low = parse_number(trimmed(first), kMost);
    const bool is_range = part.find('-') != std::string_view::npos;
    const std::optional<int> high = is_range ? parse_number(trimmed(last), kMost) : low;
    if (!low || !high || *high < *low) {
      fail(fmt::format("{} \"{}\": \"{}\" is not a number or a range; write a list like 0,2-4.", what, text,
                       part));
    }
    std::fill(is_named.begin() + *low, is_named.begin() + *high + 1, true);
  }
  std::vector<int> numbers;
  for (int number = 0; number <= kMost; ++number) {
    if (is_named[static_cast<std::size_t>(number)]) numbers.push_back(number);
  }
  return numbers;
}

}  // namespace deepscale
