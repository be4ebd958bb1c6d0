#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "comm/base/error.h"
#include "runtime/monitor/monitor.h"
#include "runtime/monitor/output_folder.h"

namespace deepscale {
namespace {

namespace fs = std::filesystem;

class CsvMonitor final : public Monitor {
 public:
  explicit CsvMonitor(const MonitorConfig& config) : folder_(make_output_folder(config, "csv_monitor")) {}

  void write(const std::vector<MonitorValue>& values) override {
    for (const MonitorValue& value : values) {
      std::ofstream& file = file_of(value.name);
      file << fmt::format("{},{}\n", value.step, value.value);
      check(file, value.name);
    }
  }

  void flush() override {
    for (auto& [name, file] : files_) {
      file.flush();
      check(file, name);
    }
  }

 private:
  static std::string column_of(std::string name) {
    std::replace(name.begin(), name.end(), '/', '_');
    std::replace(name.begin(), name.end(), ' ', '_');
    return name;
  }
  fs::path path_of(const std::string& name) const { return folder_ / (column_of(name) + ".csv"); }

  void check(const std::ofstream& file, const std::string& name) const {
    if (file) return;
    throw Error(ErrorCode::kSystem, fmt::format("csv_monitor: cannot write to {}: {}", path_of(name).string(),
                                                std::strerror(errno)));
  }

  std::ofstream& file_of(const std::string& name) {
    const auto found = files_.find(name);
    if (found != files_.end()) return found->second;
    std::error_code ignored;
    const bool is_new = !fs::exists(path_of(name), ignored);
    std::ofstream& file = files_[name];
    file.open(path_of(name), std::ios::app | std::ios::binary);
    if (is_new) file << fmt::format("step,{}\n", column_of(name));
    check(file, name);
    return file;
  }

  const fs::path folder_;
  std::map<std::string, std::ofstream> files_;
};

}  // namespace

std::unique_ptr<Monitor> make_csv_monitor(const MonitorConfig& config) {
  return std::make_unique<CsvMonitor>(config);
}

}  // namespace deepscale
