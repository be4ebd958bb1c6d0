// For a Linux build without liburing.
#include "runtime/offload/block_file.h"

namespace deepscale {

std::unique_ptr<BlockDriver> make_block_driver(const BlockFile&, int) {
  return nullptr;
}

}  // namespace deepscale
