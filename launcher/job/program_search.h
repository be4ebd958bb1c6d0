// How this platform finds and judges executables. One implementation per platform.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "comm/base/environment.h"

namespace deepscale {

// "./x", "bin/x", on Windows also "bin\x" and "C:x": not to be looked up in PATH.
bool has_folder(const std::string& name);

// The full name of the executable file at `path`, which on Windows may leave out its ending; nothing when
// there is none.
std::optional<std::string> executable_at(const std::string& path, const Environment& environment);

// For a file that executable_at() does not take, a sentence without its dot: what would make it a program.
std::string executable_advice(const std::string& path);

// The folders of PATH, in order.
std::vector<std::string> search_folders(const Environment& environment);
void prepend_search_folder(Environment& environment, const std::string& folder);
// To a variable that lists folders as PATH does.
void append_search_folder(Environment& environment, const std::string& variable, const std::string& folder);

// Where a venv or conda folder may keep its python, best first.
std::vector<std::string> python_paths(const std::string& environment_folder);

// The folder of the running program; empty when the system does not tell.
std::string own_folder();

}  // namespace deepscale
