#include "agents/link/link_address.h"

#include <fmt/core.h>

#include <charconv>
#include <random>

#include "comm/base/error.h"

namespace deepscale {

LinkAddress LinkAddress::parse(std::string_view text) {
  const auto slash = text.find('/');
  const auto colon = text.substr(0, slash).rfind(':');
  LinkAddress address;
  if (slash != std::string_view::npos && colon != std::string_view::npos) {
    address.host = text.substr(0, colon);
    address.token = text.substr(slash + 1);
    const std::string_view port = text.substr(colon + 1, slash - colon - 1);
    const auto [end, failure] = std::from_chars(port.data(), port.data() + port.size(), address.port);
    if (failure != std::errc() || end != port.data() + port.size()) address.port = 0;
  }
  if (address.host.empty() || address.token.empty() || address.port < 1 || address.port > 65535) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "DEEPSCALE_AGENT is not HOST:PORT/TOKEN; deepscale launch sets it for each rank, so leave it as "
        "it was, or unset it to run without an agent");
  }
  return address;
}

std::string LinkAddress::text() const {
  return fmt::format("{}:{}/{}", host, port, token);
}

std::string new_link_token() {
  std::random_device source;
  std::string token;
  for (int i = 0; i < 4; ++i) token += fmt::format("{:08x}", source());
  return token;
}

bool is_same_secret(std::string_view left, std::string_view right) {
  if (left.size() != right.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    difference |= static_cast<unsigned char>(left[i]) ^ static_cast<unsigned char>(right[i]);
  }
  return difference == 0;
}

}  // namespace deepscale
