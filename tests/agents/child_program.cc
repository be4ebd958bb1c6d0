// The child of the process tests: each argument is something to do, in order; some take a value.
//
//   exit=N  crash  hang  ignore-stop  exit-at-stop=N  close-output  stop-yourself
//   out=TEXT  err=TEXT  binary  flood=MIB  lines=COUNT  variable=NAME  directory  input  arguments (the ones
//   after it) grandchild  detached-grandchild  orphan-grandchild
//   wait-for=FILE  sleep=MILLISECONDS  spin  join (its agent's link)  heartbeat=STEPS  rest beat=MILLISECONDS
//   (heartbeats all the time)  report=TEXT (an exception) report-peer-lost=TEXT
//   ask (whether it is to stop)  wait-for-stop
#include "tests/agents/child_program.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>

#include "agents/link/rank_link.h"

namespace deepscale::testing {
namespace {

void print(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
  std::fflush(stream);
}

void print_binary() {
  std::string bytes;
  for (int value = 0; value < 256; ++value) bytes += static_cast<char>(value);
  print(stdout, bytes);
}

void flood(int mebibytes) {
  const std::string line(1023, 'x');
  for (int i = 0; i < 1024 * mebibytes; ++i) std::fwrite((line + '\n').data(), 1, 1024, stdout);
  std::fflush(stdout);
}

void print_lines(int count) {
  for (int i = 0; i < count; ++i) std::printf("line %d of a rank that has much to tell\n", i);
  std::fflush(stdout);
}

void print_input() {
  for (int c = 0; (c = std::getchar()) != EOF;) std::putchar(c);
  print(stdout, "end of input\n");
}

void print_pid(long long pid) {
  print(stdout, "pid " + std::to_string(pid) + "\n");
}

// No test takes this long, and nothing is left for ever if a test fails.
[[noreturn]] void hang() {
  std::this_thread::sleep_for(std::chrono::seconds(120));
  std::_Exit(97);
}

void wait_for(const std::string& file) {
  for (int i = 0; i < 120'000 && !std::filesystem::exists(file); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

[[noreturn]] void spin() {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (std::chrono::steady_clock::now() < end) {
  }
  std::_Exit(97);
}

// False: the action has nothing to do with the link.
bool use_link(RankLink& link, std::string_view action, const std::string& value) {
  if (action == "join") {
    link = RankLink::from_environment(Environment::of_process());
  } else if (action == "heartbeat") {
    link.heartbeat(std::atoi(value.c_str()));
  } else if (action == "beat") {
    for (int i = 0; i < std::atoi(value.c_str()); ++i) {
      link.heartbeat(i);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  } else if (action == "rest") {
    link.rest();
  } else if (action == "report") {
    link.report_failure(RankFailure::kException, value);
  } else if (action == "report-peer-lost") {
    link.report_failure(RankFailure::kPeerLost, value);
  } else if (action == "ask") {
    link.stop_requested();
  } else if (action == "wait-for-stop") {
    while (!link.stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  } else {
    return false;
  }
  return true;
}

void act(const char* program, std::string_view action, const std::string& value) {
  const int number = std::atoi(value.c_str());
  if (action == "exit") std::exit(number);
  if (action == "crash") crash();
  if (action == "hang") hang();
  if (action == "ignore-stop") return ignore_stop_requests();
  if (action == "exit-at-stop") return exit_at_stop_request(number);
  if (action == "wait-for") return wait_for(value);
  if (action == "spin") spin();
  if (action == "sleep") return std::this_thread::sleep_for(std::chrono::milliseconds(number));
  if (action == "close-output") return close_output();
  if (action == "stop-yourself") return stop_this_process();
  if (action == "out") return print(stdout, value);
  if (action == "err") return print(stderr, value);
  if (action == "binary") return print_binary();
  if (action == "flood") return flood(number);
  if (action == "lines") return print_lines(number);
  if (action == "directory") return print(stdout, std::filesystem::current_path().string());
  if (action == "input") return print_input();
  if (action == "grandchild") return print_pid(start_grandchild(program, Grandchild::kPlain));
  if (action == "detached-grandchild") return print_pid(start_grandchild(program, Grandchild::kDetached));
  if (action == "orphan-grandchild") return print_pid(start_grandchild(program, Grandchild::kOrphan));
  if (action == "variable") {
    const char* found = std::getenv(value.c_str());
    return print(stdout, found != nullptr ? found : "(unset)");
  }
  std::fprintf(stderr, "unknown action %s\n", std::string(action).c_str());
  std::exit(96);
}

}  // namespace
}  // namespace deepscale::testing

int main(int count, char** arguments) {
  deepscale::testing::use_binary_output();
  deepscale::RankLink link;
  for (int i = 1; i < count; ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "arguments") {
      for (++i; i < count; ++i) std::printf("[%s]\n", arguments[i]);
      break;
    }
    const auto equals = argument.find('=');
    const std::string value(equals == std::string_view::npos ? "" : argument.substr(equals + 1));
    const auto action = argument.substr(0, equals);
    if (deepscale::testing::use_link(link, action, value)) continue;
    deepscale::testing::act(arguments[0], action, value);
  }
  return 0;
}
