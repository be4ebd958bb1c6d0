// The rank of the launcher's end-to-end tests: each argument is something to do, in order. "2:exit=3" is for
// rank 2 only.
//
//   exit=N  hang  kill-yourself  ignore-stop  sleep=MILLISECONDS
//   out=TEXT  err=TEXT  lines=COUNT  variable=NAME  arguments (prints those after it)
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace {

std::string variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value != nullptr ? value : "(unset)";
}

void sleep_for(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// No test takes this long, and nothing is left for ever if one fails.
[[noreturn]] void hang() {
  sleep_for(120'000);
  std::_Exit(97);
}

void print_lines(int count) {
  const std::string rank = variable("RANK");
  for (int i = 0; i < count; ++i) {
    std::fprintf(i % 2 == 0 ? stdout : stderr, "line %d of rank %s, which has much to tell\n", i,
                 rank.c_str());
  }
  std::fflush(stdout);
}

void act(const std::string& action, const std::string& value) {
  if (action == "exit") std::exit(std::atoi(value.c_str()));
  if (action == "hang") hang();
  if (action == "sleep") return sleep_for(std::atoi(value.c_str()));
  if (action == "lines") return print_lines(std::atoi(value.c_str()));
  if (action == "kill-yourself") std::raise(9);
  if (action == "ignore-stop") {
    std::signal(SIGTERM, SIG_IGN);
    std::signal(SIGINT, SIG_IGN);
    return;
  }
  std::FILE* stream = action == "err" ? stderr : stdout;
  const std::string text = action == "variable" ? value + "=" + variable(value) : value;
  std::fprintf(stream, "%s\n", text.c_str());
  std::fflush(stream);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string own_rank = variable("RANK");
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "arguments") {
      for (++i; i < argc; ++i) std::printf("argument <%s>\n", argv[i]);
      break;
    }
    const auto colon = word.find(':');
    const bool is_for_one_rank = colon != std::string::npos && word.find_first_not_of("0123456789") == colon;
    if (is_for_one_rank && word.substr(0, colon) != own_rank) continue;
    if (is_for_one_rank) word = word.substr(colon + 1);
    const auto equals = word.find('=');
    act(word.substr(0, equals), equals == std::string::npos ? "" : word.substr(equals + 1));
  }
  return 0;
}
