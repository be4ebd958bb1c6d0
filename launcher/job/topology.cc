#include "launcher/job/topology.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string_view>

namespace deepscale {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::optional<int> number_at(std::string_view text) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() ? std::optional(value) : std::nullopt;
}

// "0-3,8" -> 0 1 2 3 8.
std::vector<int> numbers_of_list(const std::string& text) {
  constexpr int kMost = 1 << 20;
  std::vector<int> numbers;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const auto first = number_at(part);
    const auto dash = part.find('-');
    const auto last = dash == std::string::npos ? first : number_at(std::string_view(part).substr(dash + 1));
    if (!first || !last || *first < 0 || *last > kMost) continue;
    for (int number = *first; number <= *last; ++number) numbers.push_back(number);
  }
  return numbers;
}

std::vector<std::string> sorted_names(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The quota of one folder: cpu.max has "QUOTA PERIOD" or "max PERIOD", version 1 two files, the quota -1
// where there is none.
std::optional<double> quota_of_folder(const std::string& folder) {
  std::istringstream both(read_file(folder + "/cpu.max"));
  double quota = 0;
  double period = 0;
  if (!(both >> quota >> period)) {
    std::istringstream first(read_file(folder + "/cpu.cfs_quota_us"));
    std::istringstream second(read_file(folder + "/cpu.cfs_period_us"));
    if (!(first >> quota) || !(second >> period)) return std::nullopt;
  }
  return quota > 0 && period > 0 ? std::optional(quota / period) : std::nullopt;
}

// The folders of the processor controller, from our cgroup up to the root.
std::vector<std::string> processor_folders(const std::string& cgroups, const std::string& own_cgroups) {
  std::vector<std::string> folders;
  std::istringstream lines(own_cgroups);
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(':');
    const auto path = line.find(':', colon + 1);
    if (colon == std::string::npos || path == std::string::npos) continue;
    const std::string controllers = "," + line.substr(colon + 1, path - colon - 1) + ",";
    const bool is_unified = controllers == ",,";
    if (!is_unified && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string root = is_unified ? cgroups : cgroups + "/cpu";
    // Within a container the path may not exist, and the container's own cgroup is the root.
    for (std::string at = line.substr(path + 1); at.size() > 1; at = at.substr(0, at.rfind('/')))
      folders.push_back(root + at);
    folders.push_back(root);
  }
  return folders;
}

}  // namespace

std::map<int, int> numa_nodes(const std::string& nodes) {
  std::map<int, int> node_of;
  for (const int node : numbers_of_list(read_file(nodes + "/online"))) {
    const std::string list = nodes + "/node" + std::to_string(node) + "/cpulist";
    for (const int processor : numbers_of_list(read_file(list))) node_of[processor] = node;
  }
  return node_of;
}

std::optional<double> quota_of_processors(const std::string& cgroups, const std::string& own_cgroups) {
  std::optional<double> least;
  for (const std::string& folder : processor_folders(cgroups, own_cgroups)) {
    const auto quota = quota_of_folder(folder);
    if (quota && (!least || *quota < *least)) least = quota;
  }
  return least;
}

std::vector<Gpu> gpus_of_driver(const std::string& driver, const std::string& devices) {
  std::vector<Gpu> gpus;
  for (const std::string& address : sorted_names(driver)) {
    Gpu gpu;
    std::istringstream lines(read_file(driver + "/" + address + "/information"));
    for (std::string line; std::getline(lines, line);) {
      if (line.rfind("GPU UUID:", 0) == 0) gpu.uuid = line.substr(line.find_last_of(" \t") + 1);
    }
    gpu.numa_node = number_at(read_file(devices + "/" + address + "/numa_node")).value_or(-1);
    gpus.push_back(std::move(gpu));
  }
  return gpus;
}

}  // namespace deepscale
