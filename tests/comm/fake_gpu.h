// Steers the fake of the NVIDIA driver and NCCL (fake_cuda.cc, fake_nccl.cc), whose GPUs are threads and
// whose device memory is host memory. The fake is one shared library, which the backend loads by its path.
#pragma once

#include <cstddef>

namespace deepscale::fake {

// What NCCL reports for the communicators on that device from now on; 0: nothing.
void set_asynchronous_error(int device, int result);
// How many communicators exist that were neither destroyed nor aborted.
int live_communicators();
// How many collectives the largest group had since the last call.
std::size_t largest_group();
// The version that the library says it has; 0 is its own.
void set_version(int version);

// A stream of `device`, and work on it; for the default stream use nullptr.
void* make_stream(int device);
void destroy_stream(int device, void* stream);
void enqueue(int device, void* stream, void (*function)(void*), void* argument);
// Blocks until the stream is empty.
void synchronize(int device, void* stream);

}  // namespace deepscale::fake
