#include "comm/base/error.h"
#include "comm/gloo/module.h"

namespace deepscale::gloo {

const Functions& open_module() {
  throw Error(ErrorCode::kUnsupported, "Gloo is not available on Windows; the backend 'tcp' is");
}

}  // namespace deepscale::gloo
