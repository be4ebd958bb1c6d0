#include "launcher/report/python_facts.h"

#include <boost/asio/io_context.hpp>
#include <sstream>

#include "agents/process/child_process.h"
#include "comm/base/error.h"
#include "launcher/job/program.h"

namespace deepscale {
namespace {

constexpr auto kPatience = std::chrono::seconds(5);

constexpr const char* kQuestion = R"(
import sys
print(sys.executable)
print(sys.version.split()[0])
try:
    import importlib.metadata
    print(importlib.metadata.version("torch"))
except Exception:
    print()
)";

}  // namespace

std::optional<PythonFacts> read_python_facts(const Environment& environment) {
  JobSpec spec;
  spec.run_as_module = true;
  std::string output;
  bool has_answered = false;
  try {
    boost::asio::io_context io;
    ChildProcess::Options options;
    options.program = resolve_program(spec, environment).executable;
    options.arguments = {"-c", kQuestion};
    options.environment = environment;
    ChildProcess::Callbacks callbacks;
    callbacks.on_output = [&](OutputStream stream, std::string_view text) {
      if (stream == OutputStream::kOut) output += text;
    };
    callbacks.on_ended = [&](const ExitStatus& status) { has_answered = status.is_success(); };
    callbacks.on_gone = [&] { io.stop(); };
    const ChildProcess python(io, std::move(options), std::move(callbacks));
    io.run_for(kPatience);
  } catch (const Error&) {
    return std::nullopt;
  }
  if (!has_answered) return std::nullopt;
  PythonFacts facts;
  std::istringstream lines(output);
  std::getline(lines, facts.executable);
  std::getline(lines, facts.version);
  std::getline(lines, facts.torch_version);
  return facts;
}

}  // namespace deepscale
