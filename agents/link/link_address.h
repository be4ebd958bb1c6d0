// Where the agent of a node listens for one rank, and the secret by which that rank is known: what
// DEEPSCALE_AGENT holds, as "127.0.0.1:PORT/TOKEN".
//
// Every rank of every generation has a token of its own, so that no stranger on the machine, and no rank of
// an earlier generation, can speak for it. The environment of a process is readable by its user only. Pure,
// except for the randomness of new_link_token().
#pragma once

#include <string>
#include <string_view>

namespace deepscale {

struct LinkAddress {
  std::string host;  // numeric
  int port = 0;
  std::string token;

  // Error(kInvalidArgument) for a text of another form; the token is not repeated in the message.
  static LinkAddress parse(std::string_view text);
  std::string text() const;
};

std::string new_link_token();  // 32 hexadecimal digits from the system's source of randomness

// In a time that does not tell where they differ.
bool is_same_secret(std::string_view left, std::string_view right);

}  // namespace deepscale
