// Any bytes as a safetensors file: tensors whose bytes can be read, or an Error; nothing else. The file is in
// memory, since a disk would take most of the time.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "comm/base/error.h"
#include "runtime/checkpoint/safetensors.h"
#include "tests/fuzz/require.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int file = memfd_create("safetensors", MFD_CLOEXEC);
  deepscale::testing::require(file >= 0, "a file in memory can be made");
  deepscale::testing::require(write(file, data, size) == static_cast<ssize_t>(size), "it takes the bytes");
  try {
    const deepscale::SafetensorsReader reader("/proc/self/fd/" + std::to_string(file));
    for (const auto& [name, entry] : reader.entries()) {
      std::vector<char> values(static_cast<std::size_t>(entry.bytes) + 1);
      reader.read(name, values.data());
    }
  } catch (const deepscale::Error&) {
  }
  close(file);
  return 0;
}
