// Cuts the parameters of a model into groups along its module tree.
//
// A module whose parameters have at most `max_numel` elements together is one group; a larger one is cut into
// its children. So the repeated blocks of a network become groups of their own where that is a useful size.
// A single parameter may exceed max_numel. Parameters without a module in common are not put together.
//
// `names` are those of torch::nn::Module::named_parameters(), "encoder.layers.0.linear1.weight", in that
// order, with their sizes in elements. Returns the group of each, counting from 0; a group is a run of
// neighbours.
// Pure; the same on every rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deepscale {

std::vector<int> group_by_module(const std::vector<std::string>& names,
                                 const std::vector<std::int64_t>& numels, std::int64_t max_numel);

}  // namespace deepscale
