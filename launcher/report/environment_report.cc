#include "launcher/report/environment_report.h"

#include <fmt/core.h>

#include <filesystem>
#include <fstream>

#include "comm/base/dynamic_library.h"
#include "launcher/job/file_path.h"
#include "launcher/job/machine.h"
#include "launcher/job/program_search.h"
#include "launcher/report/build_facts.h"
#include "launcher/report/gpu_facts.h"
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

bool file_exists(const std::string& path) {
  std::error_code failure;
  return std::filesystem::exists(to_path(path), failure);
}

ReportSection build_section() {
  return {"deepscale",
          {fact("version", build_facts::kVersion), fact("compiler", build_facts::kCompiler),
           fact("build type", build_facts::kBuildType),
           fact("sanitizers", *build_facts::kSanitizers ? build_facts::kSanitizers : "none")}};
}

ReportEntry libtorch_entry() {
  if (!build_facts::kWithTorch) {
    return {"training", "built without LibTorch", false, false,
            "configure with -DDEEPSCALE_WITH_TORCH=ON (./build.sh does)"};
  }
  const std::string library = std::string(build_facts::kLibTorchRoot) + "/lib/libtorch_cpu.so";
  if (file_exists(library)) {
    return {"training",
            fmt::format("LibTorch {} in {}", build_facts::kLibTorchVersion, build_facts::kLibTorchRoot), true,
            true, ""};
  }
  return {"training", library + " has gone", true, false, "run ./build.sh again: it fetches LibTorch anew"};
}

ReportEntry cuda_entry(bool has_gpu) {
  if (!build_facts::kWithCuda) {
    return {"CUDA training", "built for the CPU", false, false,
            has_gpu ? "this machine has a GPU: configure with -DDEEPSCALE_WITH_CUDA=ON" : ""};
  }
  return {"CUDA training", has_gpu ? "ready" : "no GPU on this machine", true, has_gpu, ""};
}

// A backend of the communicator that this version does not have, and whether its library would be there.
ReportEntry absent_backend(const char* name, const std::vector<std::string>& libraries) {
  std::string value = "not in this version";
  if (!libraries.empty())
    value += DynamicLibrary::open(libraries) ? "; its library is installed" : "; its library is not found";
  return {name, value, false, false, ""};
}

// LibTorch's own comes with its program; here it is only looked for.
ReportEntry nccl_entry(const Environment& environment, bool has_gpu) {
  const std::string beside_libtorch =
      std::string(build_facts::kLibTorchRoot) + "/../nvidia/nccl/lib/libnccl.so.2";
  for (const std::string& library :
       {environment.get_or("DEEPSCALE_NCCL_LIBRARY", ""), std::string("libnccl.so.2"), beside_libtorch}) {
    if (library.empty() || !DynamicLibrary::open({library})) continue;
    return {"backend nccl",
            fmt::format("ranks with a GPU each, through {}{}", library, has_gpu ? "" : "; no GPU here"), true,
            has_gpu, ""};
  }
  return {"backend nccl", "libnccl.so.2 is not found", true, false,
          has_gpu ? "install NCCL, or set DEEPSCALE_NCCL_LIBRARY to its libnccl.so.2" : ""};
}

ReportSection feature_section(const Environment& environment, bool has_gpu) {
  return {"features and backends",
          {libtorch_entry(),
           cuda_entry(has_gpu),
           {"backend single", "one process", true, true, ""},
           {"backend shm", "the processes of one host, through shared memory", true, true, ""},
           {"backend tcp", "any number of processes, through the CPU", true, true, ""},
           absent_backend("backend gloo", {"libgloo.so.0", "libgloo.so"}),
           nccl_entry(environment, has_gpu)}};
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
    if (!version.empty()) return fact("CUDA toolkit", fmt::format("{} in {}", version, root));
  }
  return fact("CUDA toolkit", "not found");
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
       fact("cores to use", std::to_string(machine.core_count())),
       fact("memory", fmt::format("{}, {} available", gigabytes(facts.memory_bytes),
                                  gigabytes(facts.available_memory_bytes)))}};
  if (facts.shared_memory_bytes) {
    const bool is_small = *facts.shared_memory_bytes < kSmallSharedMemory;
    section.entries.push_back(
        fact("/dev/shm", gigabytes(*facts.shared_memory_bytes),
             is_small ? "data loaders and NCCL need more: start the container with --shm-size=8g" : ""));
  }
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
  return {build_section(), feature_section(environment, machine.gpu_count > 0),
          device_section(machine, read_gpu_facts(), environment), machine_section(machine, environment)};
}

}  // namespace deepscale
