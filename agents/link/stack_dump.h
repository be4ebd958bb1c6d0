// The stacks of all threads of this process on its stderr, for whoever wants to know where a rank hangs.
//
// One block for each thread, the main thread's last, so that it is among the last lines that the failure
// report keeps. On Linux a handler of SIGQUIT prints them, also when no other thread of the program moves:
// each thread prints its own (backtrace(3)). Names of functions appear where the program exports them (link
// it with -rdynamic); else the offsets in their files do, which addr2line reads. On Windows the thread that
// calls dump_stacks() suspends the others one by one and walks their stacks.
#pragma once

namespace deepscale {

// Takes SIGQUIT, unless the program handles or ignores it already. Any number of times, from any thread.
void install_stack_dump();

// From any thread of the process. On Linux it only sends the signal, and only to a program that handles it.
void dump_stacks();

}  // namespace deepscale
