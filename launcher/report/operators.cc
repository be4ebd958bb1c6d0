#include "launcher/report/operators.h"

#include <fmt/core.h>

#include <filesystem>

#include "comm/base/dynamic_library.h"
#include "comm/base/environment.h"
#include "launcher/job/file_path.h"
#include "launcher/report/build_facts.h"
#include "launcher/report/system_facts.h"

namespace deepscale {
namespace {

ReportEntry usable(std::string name, std::string value) {
  return {std::move(name), std::move(value), true, true, ""};
}

ReportEntry not_usable(std::string name, std::string value, std::string remedy) {
  return {std::move(name), std::move(value), true, false, std::move(remedy)};
}

ReportEntry absent(std::string name, std::string value, std::string remedy = "") {
  return {std::move(name), std::move(value), false, false, std::move(remedy)};
}

bool has_libtorch() {
  for (const char* name : {"libtorch_cpu.so", "torch_cpu.dll"}) {
    std::error_code failure;
    if (std::filesystem::exists(to_path(std::string(build_facts::kLibTorchRoot) + "/lib/" + name), failure))
      return true;
  }
  return false;
}

// An operator that needs LibTorch. `is_in_version`: whether the sources have it.
ReportEntry libtorch_operator(const std::string& name, const std::string& value, bool is_in_version = true) {
  if (!is_in_version) return absent(name, "not in this version");
  if (!build_facts::kWithTorch)
    return absent(name, "built without LibTorch",
                  "configure with -DDEEPSCALE_WITH_TORCH=ON (./build.sh does)");
  if (!has_libtorch()) {
    return not_usable(name, fmt::format("LibTorch has gone from {}", build_facts::kLibTorchRoot),
                      "build again: that fetches LibTorch anew");
  }
  return usable(name, value);
}

ReportEntry cuda_operator(bool has_gpu) {
  if (!build_facts::kWithTorch) return libtorch_operator("cuda", "");
  if (!build_facts::kWithCuda) {
    return absent("cuda", "built for the CPU",
                  has_gpu ? "this machine has a GPU: configure with -DDEEPSCALE_WITH_CUDA=ON" : "");
  }
  return has_gpu ? usable("cuda", "ready") : not_usable("cuda", "no GPU on this machine", "");
}

ReportEntry async_io_operator() {
  if (!build_facts::kWithOffload) return absent("async_io", "not in this version");
  const std::string interface = read_system_facts().asynchronous_io;
  if (interface.empty()) {
    return usable("async_io", "by threads: this system does not allow io_uring");
  }
  return usable("async_io", interface);
}

ReportEntry cpu_adam_operator() {
  return build_facts::kWithOffload ? usable("cpu_adam", "optimizer kernels for host memory")
                                   : absent("cpu_adam", "not in this version");
}

// A backend whose library is opened at run time.
ReportEntry library_backend(const char* name, bool is_in_build, const std::vector<std::string>& libraries) {
  const bool has_library = DynamicLibrary::open(libraries).has_value();
  const char* found = has_library ? "its library is installed" : "its library is not found";
  if (!is_in_build) return absent(name, fmt::format("not in this build; {}", found));
  return has_library ? usable(name, found) : not_usable(name, found, "");
}

// Where comm/nccl looks for it. LibTorch's own comes with its program; here it is only looked for.
std::vector<std::string> nccl_libraries() {
  std::vector<std::string> libraries = {
      "libnccl.so.2", std::string(build_facts::kLibTorchRoot) + "/../nvidia/nccl/lib/libnccl.so.2"};
  const std::string chosen = Environment::of_process().get_or("DEEPSCALE_NCCL_LIBRARY", "");
  if (!chosen.empty()) libraries.insert(libraries.begin(), chosen);
  return libraries;
}

}  // namespace

EnvironmentReport operator_sections(bool has_gpu) {
  const std::string libtorch = fmt::format("LibTorch {}", build_facts::kLibTorchVersion);
  return {
      {"ops",
       {async_io_operator(), cpu_adam_operator(), libtorch_operator("fused_adam", libtorch),
        libtorch_operator("zero", "stages 0 to 3"), cuda_operator(has_gpu),
        libtorch_operator("transformer_inference", libtorch, build_facts::kWithModels)}},
      {"backends",
       {usable("single", "one process"), usable("shm", "the processes of one host, through shared memory"),
        usable("tcp", "any number of processes, through the CPU"),
        library_backend("gloo", build_facts::kWithGloo, {"libgloo.so.0"}),
        library_backend("nccl", build_facts::kWithNccl, nccl_libraries())}}};
}

}  // namespace deepscale
