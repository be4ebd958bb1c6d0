// "Did you mean ...?" for names that a person typed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepscale {

// The candidate nearest to `name`, or nothing when none is near enough to be what was meant. Case and the
// difference between '-' and '_' do not count. Nearness is Damerau's distance (insert, delete, replace, swap
// neighbours) of at most a third of the length of `name`, and at least one; of equals, the first candidate
// wins.
std::optional<std::string> suggest(std::string_view name, const std::vector<std::string>& candidates);

// " Did you mean \"x\"?" (with the leading space), or an empty text: to end an error message with.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace deepscale
