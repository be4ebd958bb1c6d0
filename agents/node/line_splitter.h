// Cuts a stream of bytes into lines, in bounded memory.
//
// Whole lines that lie inside one read are passed on without a copy; only an unfinished line is kept, and one
// that grows beyond the limit is passed on in pieces. Any bytes may be in a line. A value; no thread rules.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace deepscale {

class LineSplitter {
 public:
  struct Piece {
    std::string_view text;       // without the newline; valid during the call only
    bool is_start = true;        // a line begins here
    bool is_end = true;          // it ends here, by a newline or by the end of the stream
    bool lacks_newline = false;  // by the latter
  };
  using Sink = std::function<void(const Piece&)>;

  explicit LineSplitter(std::size_t max_piece_bytes) : max_piece_bytes_(max_piece_bytes) {}

  void feed(std::string_view bytes, const Sink& sink);
  // Passes on what has come of an unfinished line.
  void flush(const Sink& sink);
  // The stream has ended: passes on what is left of a line without a newline.
  void finish(const Sink& sink);

 private:
  enum class End { kNone, kNewline, kOfStream };
  void emit(std::string_view bytes, End end, const Sink& sink);

  std::size_t max_piece_bytes_;
  std::string unfinished_;
  bool is_at_start_ = true;
};

}  // namespace deepscale
