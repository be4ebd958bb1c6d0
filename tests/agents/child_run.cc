#include "tests/agents/child_run.h"

#include <numeric>
#include <thread>
#include <utility>

namespace deepscale::testing {
ChildProcess::Options child_options(std::vector<std::string> actions) {
  return {.program = DEEPSCALE_TEST_CHILD,
          .arguments = std::move(actions),
          .environment = Environment::of_process()};
}

bool run_until(boost::asio::io_context& io, const std::function<bool()>& condition, Clock::duration wait) {
  const auto deadline = Deadline::after(wait);
  while (!condition()) {
    if (deadline.has_passed()) return false;
    if (io.stopped()) io.restart();
    if (io.run_one_until(deadline.time()) == 0 && io.stopped()) return condition();
  }
  return true;
}

bool wait_until(const std::function<bool()>& condition, Clock::duration wait) {
  const auto deadline = Deadline::after(wait);
  while (!condition()) {
    if (deadline.has_passed()) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

ChildRun::ChildRun(ChildProcess::Options options) {
  process = std::make_unique<ChildProcess>(
      io, std::move(options),
      ChildProcess::Callbacks{.on_output =
                                  [this](OutputStream stream, std::string_view bytes) {
                                    (stream == OutputStream::kOut ? out : error) += bytes;
                                  },
                              .on_ended =
                                  [this](const ExitStatus& how) {
                                    status = how;
                                    ++ended_calls;
                                  },
                              .on_gone = [this] { ++gone_calls; }});
  process->wait_until_started();
}

bool ChildRun::finish(Clock::duration wait) {
  return run_until(
      io, [this] { return gone_calls > 0; }, wait);
}

bool ChildRun::wait_for_output(const std::string& text) {
  return run_until(io, [&] { return out.find(text) != std::string::npos; });
}

std::int64_t ChildRun::told_pid() {
  return wait_for_output("pid ") && wait_for_output("\n") ? std::stoll(out.substr(out.find("pid ") + 4)) : -1;
}

std::vector<std::uint32_t> chaos_seeds(std::int64_t default_runs) {
  const Environment environment = Environment::of_process();
  if (const auto seed = environment.get_integer("DEEPSCALE_CHAOS_SEED")) {
    return {static_cast<std::uint32_t>(*seed)};
  }
  std::vector<std::uint32_t> all(
      static_cast<std::size_t>(environment.get_integer("DEEPSCALE_CHAOS_RUNS").value_or(default_runs)));
  std::iota(all.begin(), all.end(), 1);
  return all;
}

}  // namespace deepscale::testing
