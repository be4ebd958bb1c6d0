// What the module libdeepscale_gloo.so offers: the connections of one rank to all others, through Gloo.
//
// A module of its own since LibTorch has another Gloo inside, with the same names: the module is opened
// such that it and the libgloo that it links see nothing but each other. So only C types cross this border,
// and no exception does. All functions may be called from any thread; none but connect() and wait() blocks.
//
// Two ranks make a Mesh each, tell each other their addresses, and connect. Messages of a pair of ranks in
// one slot arrive in the order in which they were started, and both ends give the same number of bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace deepscale::gloo {

struct Mesh;
struct Transfer;  // one message; its memory belongs to it until release()

struct MeshRequest {
  int rank = 0;
  int size = 1;
  const char* listen_address = "";            // numeric
  std::int64_t connect_timeout_milliseconds;  // of connect()
};

struct TransferRequest {
  int peer = 0;
  bool sends = false;
  std::uint64_t slot = 0;  // the highest one is taken
  void* data = nullptr;
  std::size_t bytes = 0;
  std::int64_t timeout_milliseconds = 0;  // from the start on
};

enum class Outcome : int { kDone, kAborted, kTimeout, kConnectionLost };

inline constexpr std::size_t kAddressBytes = 192;                                  // at most
inline constexpr std::int64_t kLongestMilliseconds = 1000LL * 60 * 60 * 24 * 365;  // that is, for ever

// Texts are valid until the same thread calls the next function.
struct Functions {
  const char* (*create)(const MeshRequest* request, Mesh** mesh);  // nullptr, or why there is none
  void (*destroy)(Mesh* mesh);                                     // after all its transfers were released
  std::size_t (*address)(Mesh* mesh, int peer, char* bytes);       // returns how many bytes it has
  const char* (*connect)(Mesh* mesh, int peer, const char* address, std::size_t bytes);
  Transfer* (*start)(Mesh* mesh, const TransferRequest* request);
  Outcome (*wait)(Transfer* transfer, const char** why);  // sets `why` where the connection is lost
  void (*release)(Transfer* transfer);
  // Ends every wait(), also later ones, and closes the connections, so that the peers see it.
  void (*abort)(Mesh* mesh);
};

inline constexpr const char* kEntry = "deepscale_gloo_functions";
using Entry = const Functions*();

// Opens the module once, for the rest of the process: beside the program, in ../lib from there, or where the
// system looks. Error(kUnsupported) where there is none or it cannot be opened.
const Functions& open_module();

}  // namespace deepscale::gloo
