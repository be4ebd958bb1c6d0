#include "comm/store/wire.h"

#include <fmt/core.h>

#include <algorithm>

#include "comm/base/error.h"

namespace deepscale {

namespace {

// The fields of each kind, in order: 'm' a 4-byte number, 'n' an 8-byte number, 'k' a key, 'v' a value; '*' a
// count, after which the rest is repeated that often.
constexpr std::array<std::string_view, kStoreQueryKinds> kFields = {
    "m",    // kValidate
    "kv",   // kSet
    "kvv",  // kCompareSet
    "k",    // kGet
    "kn",   // kAdd
    "*k",   // kCheck
    "*k",   // kWait
    "",     // kKeyCount
    "k",    // kDelete
    "kv",   // kAppend
    "*k",   // kMultiGet
    "*kv",  // kMultiSet
    "",     // kCancelWait
    "m",    // kPing
    "kv",   // kQueuePush
    "k",    // kQueuePop
    "k",    // kQueueLength
    "",     // kListKeys
    "kn",   // kBarrier
};

}  // namespace

void append_store_integer(std::string& out, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

void append_store_bytes(std::string& out, std::string_view bytes) {
  append_store_integer(out, bytes.size());
  out.append(bytes);
}

std::uint64_t decode_store_integer(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  }
  return value;
}

std::string encode_store_query(const StoreQuery& query) {
  std::string out(1, static_cast<char>(query.kind));
  std::size_t key = 0;
  std::size_t value = 0;
  std::string_view fields = kFields[static_cast<std::size_t>(query.kind)];
  std::size_t items = 1;
  if (!fields.empty() && fields.front() == '*') {
    items = query.keys.size();
    append_store_integer(out, items);
    fields.remove_prefix(1);
  }
  for (std::size_t item = 0; item < items; ++item) {
    for (const char field : fields) {
      switch (field) {
        case 'm':
          append_store_integer(out, static_cast<std::uint64_t>(query.number), 4);
          break;
        case 'n':
          append_store_integer(out, static_cast<std::uint64_t>(query.number));
          break;
        case 'k':
          append_store_bytes(out, query.keys.at(key++));
          break;
        case 'v':
          append_store_bytes(out, query.values.at(value++));
          break;
      }
    }
  }
  return out;
}

std::optional<StoreQuery> StoreQueryParser::next(std::string_view& input) {
  if (!fields_) {
    if (input.empty()) return std::nullopt;
    begin(static_cast<std::uint8_t>(input.front()));
    input.remove_prefix(1);
  }
  while (!fields_->empty()) {
    if (!take_field(input)) return std::nullopt;
    advance();
  }
  fields_.reset();
  return std::move(query_);
}

void StoreQueryParser::begin(std::uint8_t kind) {
  if (kind >= kStoreQueryKinds) {
    throw Error(ErrorCode::kProtocol, fmt::format("{} is not a kind of store query", kind));
  }
  query_ = StoreQuery{.kind = static_cast<StoreQueryKind>(kind)};
  fields_ = kFields[kind];
  repeated_ = {};
  items_left_ = 0;
  charged_ = 0;
}

// True when the field is complete; false when `input` ran out before.
bool StoreQueryParser::take_field(std::string_view& input) {
  switch (fields_->front()) {
    case 'k':
      return take_string(input, query_.keys, limits_.max_key_bytes);
    case 'v':
      return take_string(input, query_.values, limits_.max_value_bytes);
    case 'm':
      if (!take_integer(input, 4)) return false;
      query_.number = static_cast<std::int64_t>(integer_);
      return true;
    case 'n':
      if (!take_integer(input, 8)) return false;
      query_.number = static_cast<std::int64_t>(integer_);
      return true;
    default:  // '*'
      if (!take_integer(input, 8)) return false;
      items_left_ = integer_;
      repeated_ = fields_->substr(1);
      return true;
  }
}

bool StoreQueryParser::take_integer(std::string_view& input, std::size_t bytes) {
  const std::size_t taken = std::min(input.size(), bytes - integer_size_);
  std::copy_n(input.begin(), taken, integer_bytes_.begin() + static_cast<std::ptrdiff_t>(integer_size_));
  input.remove_prefix(taken);
  integer_size_ += taken;
  if (integer_size_ < bytes) return false;
  integer_ = decode_store_integer({integer_bytes_.data(), bytes});
  integer_size_ = 0;
  return true;
}

bool StoreQueryParser::take_string(std::string_view& input, std::vector<std::string>& into,
                                   std::size_t max_bytes) {
  if (!string_left_) {
    if (!take_integer(input, 8)) return false;
    if (integer_ > max_bytes) {
      throw Error(ErrorCode::kProtocol,
                  fmt::format("a key or value of {} bytes is over the limit of {}", integer_, max_bytes));
    }
    charge(integer_ + sizeof(std::string));
    into.emplace_back();
    string_left_ = integer_;
  }
  const std::size_t taken = static_cast<std::size_t>(std::min<std::uint64_t>(input.size(), *string_left_));
  into.back().append(input.substr(0, taken));
  input.remove_prefix(taken);
  *string_left_ -= taken;
  if (*string_left_ > 0) return false;
  string_left_.reset();
  return true;
}

// To the next field: of this item, of the next item of the list, or of nothing.
void StoreQueryParser::advance() {
  const bool was_count = fields_->front() == '*';
  fields_->remove_prefix(1);
  if (was_count && items_left_ == 0) fields_ = std::string_view();
  if (!fields_->empty() || items_left_ == 0) return;
  if (--items_left_ > 0) fields_ = repeated_;
}

void StoreQueryParser::charge(std::uint64_t bytes) {
  charged_ += bytes;
  if (charged_ > limits_.max_query_bytes) {
    throw Error(ErrorCode::kProtocol,
                fmt::format("a query needs more than the limit of {} bytes", limits_.max_query_bytes));
  }
}

}  // namespace deepscale
