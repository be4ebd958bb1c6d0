// Whether somebody looks at what this process writes.
#pragma once

namespace deepscale {

// Whether stderr is a terminal. Linux: isatty(3); Windows: a console.
bool stderr_is_terminal();

}  // namespace deepscale
