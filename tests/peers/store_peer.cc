// What store_interop.py starts: our server, or our client against whatever server there is.
//
//   store_peer serve               prints the port, serves until stdin ends
//   store_peer use HOST PORT       every operation of our client; ends with 0 when each did what it should
#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

#include "comm/base/error.h"
#include "comm/store/store.h"
#include "comm/store/store_server.h"

namespace deepscale {
namespace {

using namespace std::chrono_literals;

void require(bool holds, const char* what) {
  if (!holds) throw Error(ErrorCode::kInternal, fmt::format("not so: {}", what));
}

int serve() {
  HostedStoreServer server({.logger = Logger("store_peer", LogLevel::kWarning)});
  fmt::print("{}\n", server.port());
  std::fflush(stdout);
  std::string line;
  while (std::getline(std::cin, line)) continue;
  return 0;
}

int use(const std::string& host, int port) {
  const auto soon = Deadline::after(30s);
  const auto store = connect_store(host, port, soon);
  require(store->get("from_python", soon) == "hello from Python", "a key of torch's client is visible");
  store->set("from_cpp", "hello from C++");
  const std::string large(3 * 1024 * 1024, 'x');
  store->set("large", large);
  require(store->get("large", soon) == large, "a large value comes back");
  require(store->add("n", 5) == 5 && store->add("n", -7) == -2, "add returns the sum");
  require(store->compare_set("c", "e", "1") == "e", "compare_set of an absent key returns what was expected");
  require(store->compare_set("c", "", "1") == "1", "compare_set creates");
  require(store->compare_set("c", "2", "3") == "1", "compare_set returns the value that holds");
  require(store->check({"c", "n"}) && !store->check({"c", "missing"}), "check");
  for (int i = 0; i < 3; ++i) {
    try {
      store->wait({"c", "missing"}, Deadline::after(50ms));
      require(false, "wait ends at its deadline");
    } catch (const Error& error) {
      require(error.code() == ErrorCode::kTimeout, error.what());
    }
  }
  require(store->get("c", soon) == "1", "the connection is good after a wait that was given up");
  const auto keys = store->key_count();
  require(store->remove("c") && !store->remove("c") && store->key_count() == keys - 1, "remove");
  store_barrier(*store, "alone", 1, soon);
  return 0;
}

int run(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "serve") return serve();
  if (command == "use" && argc == 4) return use(argv[2], std::atoi(argv[3]));
  fmt::print(stderr, "usage: store_peer serve | store_peer use HOST PORT\n");
  return 2;
}

}  // namespace
}  // namespace deepscale

int main(int argc, char** argv) {
  try {
    return deepscale::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "store_peer: {}\n", error.what());
    return 1;
  }
}
