// Makes one mistake on purpose, so that a test can see the sanitizer of this build find it.
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

namespace {

void overflow() {
  const auto owner = std::make_unique<int[]>(4);
  volatile int* values = owner.get();
  values[4] = 1;
}

void leak() {
  int* volatile lost = new int[100];
  lost = nullptr;
  static_cast<void>(lost);
}

void shift() {
  volatile int distance = 40;
  volatile int result = 1 << distance;
  static_cast<void>(result);
}

void race() {
  int shared = 0;
  std::thread other([&shared] { ++shared; });
  ++shared;
  other.join();
}

}  // namespace

int main(int count, char** args) {
  const char* mistake = count == 2 ? args[1] : "";
  if (std::strcmp(mistake, "leak") == 0) {
    leak();
    return 0;  // leaks are found at exit
  }
  if (std::strcmp(mistake, "overflow") == 0) overflow();
  if (std::strcmp(mistake, "shift") == 0) shift();
  if (std::strcmp(mistake, "race") == 0) race();
  std::puts("went on");
}
