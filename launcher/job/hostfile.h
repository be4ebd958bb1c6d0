// The hosts that a job may use, and the filters that choose among them, in DeepSpeed's grammar.
//
//   hostfile:  one `NAME slots=N` a line; `#` starts a comment; empty lines are skipped
//   filter:    NAME[:SLOT[,SLOT]...][@NAME[:SLOT[,SLOT]...]]...
//
// Pure functions on text. Every mistake is an Error(kInvalidArgument) that names where it stands and the
// grammar.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deepscale {

struct Host {
  std::string name;
  std::vector<int> slots;  // numbers of the devices (or places) to use, ascending; never empty in a result
  bool operator==(const Host&) const = default;
};

// `file_name` is for messages only. Hosts keep the order of the file; a host with slots=0 is left out.
std::vector<Host> parse_hostfile(std::string_view text, const std::string& file_name);

// Reads and parses; a file that cannot be read is Error(kInvalidArgument) as well.
std::vector<Host> read_hostfile(const std::string& path);

// At most one of the filters may be non-empty. Hosts keep their order, whatever order a filter names them in;
// a name without slots stands for all slots of that host. Nothing left is an error.
std::vector<Host> filter_hosts(std::vector<Host> hosts, const std::string& include,
                               const std::string& exclude);

// "0,2-4" -> {0, 2, 3, 4}: ascending, without duplicates. `what` names the text in messages
// ("--rank_filter").
std::vector<int> parse_number_list(std::string_view text, const std::string& what);

}  // namespace deepscale
