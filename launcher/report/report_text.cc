#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "launcher/report/environment_report.h"

namespace deepscale {
namespace {

constexpr std::size_t kNameWidth = 24;
const std::string kRule(78, '-');

std::string dotted(const std::string& name, std::size_t width) {
  const std::size_t dots = name.size() + 2 < width ? width - name.size() - 1 : 1;
  return name + " " + std::string(dots, '.');
}

bool is_feature(const ReportEntry& entry) {
  return entry.is_in_build && entry.is_usable;
}

std::string entry_line(const ReportEntry& entry) {
  if (!is_feature(entry)) return fmt::format("{} {}\n", dotted(entry.name, kNameWidth), entry.value);
  return fmt::format("{} {} {}  {}\n", dotted(entry.name, kNameWidth),
                     dotted(*entry.is_in_build ? "[YES]" : "[NO]", 12),
                     *entry.is_usable ? "[OKAY]" : "[NO]  ", entry.value);
}

}  // namespace

std::string report_text(const EnvironmentReport& report) {
  std::string text;
  std::string remedies;
  for (const ReportSection& section : report) {
    text += fmt::format("{}\n{}\n{}\n", kRule, section.title, kRule);
    if (!section.entries.empty() && is_feature(section.entries.front())) {
      text += fmt::format("{} {} usable\n", dotted("name", kNameWidth), dotted("in build", 12));
    }
    for (const ReportEntry& entry : section.entries) {
      text += entry_line(entry);
      if (!entry.remedy.empty()) remedies += fmt::format("{}: {}\n", entry.name, entry.remedy);
    }
  }
  if (remedies.empty()) remedies = "nothing\n";
  return text + fmt::format("{}\nmissing, and what to do\n{}\n{}", kRule, kRule, remedies);
}

std::string report_json(const EnvironmentReport& report) {
  using Json = nlohmann::ordered_json;
  Json json = Json::object();
  for (const ReportSection& section : report) {
    Json& entries = json[section.title] = Json::object();
    for (const ReportEntry& entry : section.entries) {
      Json value = {{"value", entry.value}};
      if (entry.is_in_build) value["in_build"] = *entry.is_in_build;
      if (entry.is_usable) value["usable"] = *entry.is_usable;
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
