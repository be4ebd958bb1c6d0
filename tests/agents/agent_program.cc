// A launcher as small as can be: runs one NodeAgent over `count` ranks, each the test child with the given
// actions, and prints what they print. It is there to be killed.
//
//   test_agent COUNT ACTION...
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "agents/node/node_agent.h"
#include "tests/agents/child_run.h"

namespace {

class Printer final : public deepscale::NodeListener {
 public:
  void on_output(const deepscale::OutputLine& line) override {
    std::printf("%.*s\n", static_cast<int>(line.text.size()), line.text.data());
    std::fflush(stdout);
  }
  void on_finished(const deepscale::NodeResult& result) override { is_success = result.is_success(); }
  bool is_success = false;
};

}  // namespace

int main(int count, char** arguments) {
  std::vector<deepscale::RankCommand> commands;
  for (int rank = 0; rank < std::atoi(arguments[1]); ++rank) {
    const std::vector<std::string> actions(arguments + 2, arguments + count);
    commands.push_back({rank, rank, deepscale::testing::child_options(actions)});
  }
  boost::asio::io_context io;
  Printer printer;
  deepscale::NodeAgentOptions options;
  options.grace = std::chrono::milliseconds(100);  // its ranks may well ignore a request
  deepscale::NodeAgent agent(io, std::move(commands), printer, options);
  agent.start();
  io.run();
  return printer.is_success ? 0 : 1;
}
