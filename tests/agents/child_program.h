// What the test child does differently on each system.
#pragma once

namespace deepscale::testing {

void use_binary_output();             // '\n' stays '\n'
void ignore_stop_requests();          // SIGTERM and its like
void exit_at_stop_request(int code);  // ends with `code` instead
void close_output();                  // stdout and stderr
void stop_this_process();             // SIGSTOP; returns at once where there is no such thing
[[noreturn]] void crash();

// Starts this program again in the mode `hang`, holding our output: as a plain child, in a session of its
// own, or as an orphan in a session of its own.
enum class Grandchild { kPlain, kDetached, kOrphan };
long long start_grandchild(const char* program, Grandchild kind);

}  // namespace deepscale::testing
