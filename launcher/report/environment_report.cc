#include "launcher/report/environment_report.h"

#include <fmt/core.h>

#include <fstream>

#include "comm/base/dynamic_library.h"
#include "launcher/job/file_path.h"
#include "launcher/job/machine.h"
#include "launcher/job/program_search.h"
#include "launcher/report/build_facts.h"
#include "launcher/report/gpu_facts.h"
#include "launcher/report/operators.h"
#include "launcher/report/python_facts.h"
#include "launcher/report/system_facts.h"

namespace deepscale {
namespace {

constexpr std::uint64_t kSmallSharedMemory = 1'000'000'000;

std::string gigabytes(std::uint64_t bytes) {
  return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

ReportEntry fact(std::string name, std::string value, std::string remedy = "") {
  return {std::move(name), std::move(value), std::nullopt, std::nullopt, std::move(remedy)};
}

ReportSection general_section() {
  const bool with_torch = build_facts::kWithTorch;
  return {
      "DeepScale general environment info",
      {fact("deepscale install path", own_folder()), fact("deepscale version", build_facts::kVersion),
       fact("deepscale compiled with", build_facts::kCompiler), fact("build type", build_facts::kBuildType),
       fact("sanitizers", *build_facts::kSanitizers ? build_facts::kSanitizers : "none"),
       fact("libtorch install path", with_torch ? build_facts::kLibTorchRoot : "built without LibTorch"),
       fact("libtorch version", with_torch ? build_facts::kLibTorchVersion : "none")}};
}

// The version that cuda.h of a toolkit declares; empty when it cannot be read.
std::string toolkit_version(const std::string& root) {
  std::ifstream header(to_path(root + "/include/cuda.h"));
  const std::string key = "#define CUDA_VERSION ";
  for (std::string line; std::getline(header, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const int number = std::atoi(line.c_str() + key.size());
    return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
  }
  return "";
}

ReportEntry toolkit_entry(const Environment& environment) {
  std::vector<std::string> roots;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const auto root = environment.get(name)) roots.push_back(*root);
  }
  for (const std::string& folder : search_folders(environment)) {
    if (executable_at(folder + "/nvcc", environment)) roots.push_back(folder + "/..");
  }
  roots.push_back("/usr/local/cuda");
  for (const std::string& root : roots) {
    const std::string version = toolkit_version(root);
    if (!version.empty()) return fact("nvcc version", fmt::format("{} in {}", version, root));
  }
  return fact("nvcc version", "not found");
}

ReportSection device_section(const Machine& machine, const std::optional<GpuFacts>& gpus,
                             const Environment& environment) {
  ReportSection section{"devices", {fact("GPUs", std::to_string(machine.gpu_count))}};
  if (gpus) {
    for (std::size_t i = 0; i < gpus->devices.size(); ++i)
      section.entries.push_back(fact(fmt::format("GPU {}", i), gpus->devices[i]));
    section.entries.push_back(
        fact("NVIDIA driver", fmt::format("{}, serves CUDA {}", gpus->driver_version, gpus->cuda_version)));
  } else {
    section.entries.push_back(
        fact("NVIDIA driver", "not found",
             machine.gpu_count > 0
                 ? "there are GPU device files, but NVML does not answer: install or reload the driver"
                 : ""));
  }
  section.entries.push_back(fact(
      "visible to ranks", std::to_string(visible_gpus(environment, machine.gpu_count).size()) + " GPUs"));
  section.entries.push_back(toolkit_entry(environment));
  return section;
}

ReportSection machine_section(const Machine& machine, const Environment& environment) {
  const SystemFacts facts = read_system_facts();
  ReportSection section{
      "machine",
      {fact("host", machine.host_name), fact("system", facts.system), fact("processor", facts.processor),
       fact("cores to use", std::to_string(machine.usable_core_count())),
       fact("memory", fmt::format("{}, {} available", gigabytes(facts.memory_bytes),
                                  gigabytes(facts.available_memory_bytes)))}};
  const bool is_small = facts.shared_memory_bytes < kSmallSharedMemory;
  section.entries.push_back(fact(fmt::format("shared memory ({}) size", facts.shared_memory_place),
                                 gigabytes(facts.shared_memory_bytes),
                                 is_small ? facts.shared_memory_remedy : ""));
  const auto python = read_python_facts(environment);
  section.entries.push_back(
      python ? fact("python", fmt::format("{} in {}", python->version, python->executable))
             : fact("python", "not found", "only needed to launch Python programs: install python3"));
  if (python) {
    section.entries.push_back(
        fact("python's torch", python->torch_version.empty() ? "not installed" : python->torch_version));
  }
  return section;
}

}  // namespace

EnvironmentReport collect_environment_report() {
  const Environment environment = Environment::of_process();
  const Machine machine = Machine::of_this();
  EnvironmentReport report = operator_sections(machine.gpu_count > 0);
  report.push_back(general_section());
  report.push_back(device_section(machine, read_gpu_facts(), environment));
  report.push_back(machine_section(machine, environment));
  return report;
}

}  // namespace deepscale
