#include "agents/node/line_splitter.h"

#include <algorithm>

namespace deepscale {

void LineSplitter::feed(std::string_view bytes, const Sink& sink) {
  while (!bytes.empty()) {
    const std::size_t line = std::min(bytes.find('\n'), bytes.size());
    const std::size_t room = max_piece_bytes_ - unfinished_.size();
    if (line > room || (line == room && line == bytes.size())) {
      emit(bytes.substr(0, room), End::kNone, sink);
      bytes.remove_prefix(room);
    } else if (line < bytes.size()) {
      emit(bytes.substr(0, line), End::kNewline, sink);
      bytes.remove_prefix(line + 1);
    } else {
      unfinished_ += bytes;
      return;
    }
  }
}

void LineSplitter::flush(const Sink& sink) {
  if (!unfinished_.empty()) emit({}, End::kNone, sink);
}

void LineSplitter::finish(const Sink& sink) {
  if (!unfinished_.empty() || !is_at_start_) emit({}, End::kOfStream, sink);
}

void LineSplitter::emit(std::string_view bytes, End end, const Sink& sink) {
  Piece piece{bytes, is_at_start_, end != End::kNone, end == End::kOfStream};
  if (!unfinished_.empty()) {
    unfinished_ += bytes;
    piece.text = unfinished_;
  }
  sink(piece);
  unfinished_.clear();
  is_at_start_ = piece.is_end;
}

}  // namespace deepscale
