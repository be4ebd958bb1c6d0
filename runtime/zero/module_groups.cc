#include "runtime/zero/module_groups.h"

#include <numeric>
#include <string_view>

namespace deepscale {
namespace {

class Grouping {
 public:
  Grouping(const std::vector<std::string>& names, const std::vector<std::int64_t>& numels,
           std::int64_t max_numel)
      : names_(names), numels_(numels), max_numel_(max_numel), groups_(names.size()) {}

  // Parameters [begin, end) have the first `prefix` bytes of their names, the path of a module, in common.
  void cut(std::size_t begin, std::size_t end, std::size_t prefix) {
    const auto first = numels_.begin();
    const std::int64_t numel = std::accumulate(first + static_cast<std::ptrdiff_t>(begin),
                                               first + static_cast<std::ptrdiff_t>(end), std::int64_t{0});
    if (numel <= max_numel_ || end - begin == 1) return close_group(begin, end);
    while (begin < end) {
      const std::string_view child = child_of(begin, prefix);
      std::size_t next = begin + 1;
      while (next < end && child_of(next, prefix) == child) ++next;
      cut(begin, next, prefix + child.size());
      begin = next;
    }
  }

  std::vector<int> take() { return std::move(groups_); }

 private:
  // "0." of "encoder.layers.0.bias" after the prefix "encoder.layers."; "bias" after one more.
  std::string_view child_of(std::size_t index, std::size_t prefix) const {
    const std::string_view rest = std::string_view(names_[index]).substr(prefix);
    const std::size_t dot = rest.find('.');
    return dot == std::string_view::npos ? rest : rest.substr(0, dot + 1);
  }

  void close_group(std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) groups_[i] = next_group_;
    ++next_group_;
  }

  const std::vector<std::string>& names_;
  const std::vector<std::int64_t>& numels_;
  const std::int64_t max_numel_;
  std::vector<int> groups_;
  int next_group_ = 0;
};

}  // namespace

std::vector<int> group_by_module(const std::vector<std::string>& names,
                                 const std::vector<std::int64_t>& numels, std::int64_t max_numel) {
  Grouping grouping(names, numels, max_numel);
  if (!names.empty()) grouping.cut(0, names.size(), 0);
  return grouping.take();
}

}  // namespace deepscale
