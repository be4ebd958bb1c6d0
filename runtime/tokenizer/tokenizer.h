// From text to a model's tokens and back, as a Hugging Face tokenizer.json says.
//
//   const Tokenizer tokenizer = Tokenizer::from_pretrained("models/smollm2-135m");
//   std::vector<std::int64_t> tokens = tokenizer.encode("Hello world");
//   std::string text = tokenizer.decode(tokens);
//
// The kinds of GPT-2 and OPT (byte-level pairs), BERT (WordPiece) and Llama (pairs with a byte fallback),
// with the normalizers, pre-tokenizers, post-processors, decoders and added tokens that these use;
// docs/models.md lists the parts. A file's truncation and padding are not applied, as transformers does not
// unless it is asked.
//
// Text is UTF-8; bytes that are none count as U+FFFD. Immutable and cheap to copy; any thread may use it.
// Failures: kNotFound without the file; kUnsupported for a part that is not here, by its key and name;
// kInvalidArgument for a malformed file, and for a text on which the file's own expression takes too long.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deepscale {

class Tokenizer {
 public:
  // DIRECTORY/tokenizer.json.
  static Tokenizer from_pretrained(const std::filesystem::path& directory);
  // `name` is how messages call the text of the file.
  static Tokenizer parse(std::string_view json, std::string_view name);

  // With the special tokens that the file puts around a text, or without.
  std::vector<std::int64_t> encode(std::string_view text, bool adds_special_tokens = true) const;
  // Without special tokens, or with. Tokens outside the vocabulary are left out.
  std::string decode(const std::vector<std::int64_t>& tokens, bool skips_special_tokens = true) const;

  std::optional<std::int64_t> find(const std::string& token) const;
  std::optional<std::string> token(std::int64_t id) const;
  bool is_special(std::int64_t id) const;
  std::int64_t size() const;  // one more than the largest token

 private:
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const Parts> parts_;
};

}  // namespace deepscale
