// Where the ranks of one host find each other when nobody told them a port: a file in the temporary
// directory, named after the process that started them all, which holds the port of rank 0's store.
//
// That process is their parent, or, under Open MPI, MPICH and Slurm, the nearest process above them that has
// the name of that launcher's agent: so ranks behind a wrapper script of their own meet too.
//
// The file is readable and believed only by the user that the ranks belong to.
#pragma once

#include <filesystem>
#include <optional>

#include "comm/base/world_layout.h"

namespace deepscale {

// The same for all ranks below one starting process, and different for any other process now or later on this
// machine. Error(kUnsupported), saying what to set instead, where the platform cannot tell.
std::filesystem::path rendezvous_file(StartedBy started_by);

// At once or not at all; replaces what an earlier job left. Error(kSystem).
void publish_port(const std::filesystem::path& file, int port);

// Nothing while nobody has published. Error(kSystem) when the file belongs to another user or cannot be read.
std::optional<int> published_port(const std::filesystem::path& file);

}  // namespace deepscale
