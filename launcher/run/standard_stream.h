// What StreamWriter needs of the platform. One implementation per platform.
#pragma once

#include <string_view>
#include <system_error>

#include "launcher/run/stream_writer.h"

namespace deepscale {

// Writes all of it, as long as that takes. Broken pipe: nobody reads the other end any more. Any other error:
// the rest is lost, and a later write may go well.
std::error_code write_standard_stream(StandardStream stream, std::string_view text);

// Signals of the process shall be handled elsewhere, and a broken pipe shall be an error of the write, not
// the end of the process.
void shield_thread_from_signals();

// Opens the standard streams that we were started without, so that nothing else gets their numbers: what is
// written there goes nowhere. Before anything else is opened.
void reserve_standard_streams();

}  // namespace deepscale
