#include "tests/launcher/launcher_run.h"

#include <sstream>

namespace deepscale::testing {
namespace {

// Text files of Windows programs end their lines with "\r\n".
std::string without_carriage_returns(std::string text) {
  std::erase(text, '\r');
  return text;
}

}  // namespace

std::unique_ptr<ChildRun> start_launcher(std::vector<std::string> arguments,
                                         const std::vector<std::pair<std::string, std::string>>& variables) {
  for (std::string& argument : arguments) {
    if (argument == "{rank}") argument = DEEPSCALE_TEST_RANK_PROGRAM;
  }
  ChildProcess::Options options;
  options.program = DEEPSCALE_TEST_LAUNCHER;
  options.arguments = std::move(arguments);
  options.environment = Environment::of_process();
  for (const auto& [name, value] : variables) options.environment.set(name, value);
  return std::make_unique<ChildRun>(std::move(options));
}

LauncherResult run_launcher(std::vector<std::string> arguments,
                            const std::vector<std::pair<std::string, std::string>>& variables) {
  const auto run = start_launcher(std::move(arguments), variables);
  const bool ended = run->finish();
  LauncherResult result;
  result.exit_code = ended ? run->status->shell_code() : -1;
  result.out = without_carriage_returns(run->out);
  result.error = without_carriage_returns(run->error);
  return result;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

}  // namespace deepscale::testing
