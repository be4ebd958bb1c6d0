#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "launcher/report/environment_report.h"

namespace deepscale {
namespace {

constexpr std::size_t kNameWidth = 24;
constexpr std::size_t kInfoWidth = 34;
const std::string kRule = std::string(78, '-') + "\n";

std::string dotted(const std::string& name, std::size_t width) {
  const std::size_t dots = name.size() + 2 < width ? width - name.size() - 1 : 1;
  return name + " " + std::string(dots, '.');
}

bool is_feature(const ReportEntry& entry) {
  return entry.is_installed && entry.is_compatible;
}

std::string entry_line(const ReportEntry& entry) {
  if (!is_feature(entry)) return fmt::format("{} {}\n", dotted(entry.name, kInfoWidth), entry.value);
  return fmt::format("{} {} {}  {}\n", dotted(entry.name, kNameWidth),
                     dotted(*entry.is_installed ? "[YES]" : "[NO]", 12),
                     *entry.is_compatible ? "[OKAY]" : "[NO]  ", entry.value);
}

// "ops" -> "op name ................ installed .. compatible"
std::string heading(const ReportSection& section) {
  if (section.entries.empty() || !is_feature(section.entries.front())) return section.title + ":\n";
  const std::string thing = section.title.substr(0, section.title.find_last_not_of('s') + 1);
  return fmt::format("{} {} compatible\n", dotted(thing + " name", kNameWidth), dotted("installed", 12));
}

}  // namespace

std::string report_text(const EnvironmentReport& report) {
  std::string text = kRule + "DeepScale op report\n" + kRule +
                     "NOTE: Nothing is compiled at run time. \"installed\": this build has it;\n"
                     "      \"compatible\": this machine can run it.\n";
  std::string remedies;
  for (const ReportSection& section : report) {
    text += kRule + heading(section) + kRule;
    for (const ReportEntry& entry : section.entries) {
      text += entry_line(entry);
      if (!entry.remedy.empty()) remedies += fmt::format("{}: {}\n", entry.name, entry.remedy);
    }
  }
  if (remedies.empty()) remedies = "nothing\n";
  return text + kRule + "missing, and what to do:\n" + kRule + remedies;
}

std::string report_json(const EnvironmentReport& report) {
  using Json = nlohmann::ordered_json;
  Json json = Json::object();
  for (const ReportSection& section : report) {
    Json& entries = json[section.title] = Json::object();
    for (const ReportEntry& entry : section.entries) {
      Json value = {{"value", entry.value}};
      if (entry.is_installed) value["installed"] = *entry.is_installed;
      if (entry.is_compatible) value["compatible"] = *entry.is_compatible;
      if (!entry.remedy.empty()) value["remedy"] = entry.remedy;
      entries[entry.name] = value;
    }
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

int print_environment_report(bool as_json) {
  const EnvironmentReport report = collect_environment_report();
  const std::string text = as_json ? report_json(report) : report_text(report);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace deepscale
