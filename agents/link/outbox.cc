#include "agents/link/outbox.h"

#include <utility>

namespace deepscale {
namespace {

bool tells_progress(const LinkMessage& message) {
  return message.kind == LinkKind::kHeartbeat || message.kind == LinkKind::kRest;
}

}  // namespace

void LinkOutbox::add(LinkMessage message) {
  if (message.kind == LinkKind::kAlive && !waiting_.empty()) return;
  if (!waiting_.empty() && tells_progress(waiting_.back()) && tells_progress(message)) {
    waiting_.back() = std::move(message);
  } else {
    waiting_.push_back(std::move(message));
  }
}

std::string LinkOutbox::take() {
  std::string bytes;
  for (const LinkMessage& message : waiting_) bytes += encode_link_message(message);
  waiting_.clear();
  return bytes;
}

}  // namespace deepscale
