#include "examples/bert_pretraining/text_data.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "comm/base/error.h"

namespace bert_pretraining {
namespace {

using deepscale::Error;
using deepscale::ErrorCode;

constexpr std::int64_t kIgnored = -100;

std::vector<std::filesystem::path> text_files(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored)) return {path};
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(path, ignored)) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".txt") files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());  // the same on every rank
  if (!files.empty()) return files;
  throw Error(ErrorCode::kNotFound,
              fmt::format("{} is neither a text file nor a folder of *.txt", path.string()));
}

// From 0 to below 1, the same with every standard library.
double uniform(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) / 9007199254740992.0;
}

}  // namespace

TextSamples::TextSamples(const std::filesystem::path& path, const deepscale::Tokenizer& tokenizer,
                         std::int64_t length)
    : length_(length),
      class_token_(tokenizer.find("[CLS]").value_or(-1)),
      separator_(tokenizer.find("[SEP]").value_or(-1)) {
  for (const auto& file : text_files(path)) append_file(file, tokenizer);
  if (count() > 0) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: its {} tokens do not fill one sample of {}",
                                                       path.string(), tokens_.size(), length));
}

void TextSamples::append_file(const std::filesystem::path& file, const deepscale::Tokenizer& tokenizer) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(ErrorCode::kSystem, fmt::format("cannot read {}", file.string()));
  for (std::string line; std::getline(stream, line);) {
    for (const std::int64_t token : tokenizer.encode(line, /*adds_special_tokens=*/false))
      append_token(token);
  }
}

void TextSamples::append_token(std::int64_t token) {
  const auto place = static_cast<std::int64_t>(tokens_.size()) % length_;
  if (place == 0 && class_token_ >= 0) tokens_.push_back(class_token_);
  tokens_.push_back(token);
  const auto filled = static_cast<std::int64_t>(tokens_.size()) % length_;
  if (filled == length_ - 1 && separator_ >= 0) tokens_.push_back(separator_);
}

SampleOrder::SampleOrder(const SampleOrderOptions& options)
    : sampler_(options.samples, options.rank, options.world_size, options.seed),
      batch_size_(options.batch_size),
      order_(sampler_.indices(0)) {}

std::vector<std::int64_t> SampleOrder::of(std::int64_t micro_step) {
  std::vector<std::int64_t> chosen;
  for (std::int64_t next = micro_step * batch_size_; next < (micro_step + 1) * batch_size_; ++next) {
    const auto share = static_cast<std::int64_t>(order_.size());
    if (next / share != epoch_) {
      epoch_ = next / share;
      order_ = sampler_.indices(static_cast<int>(epoch_));
    }
    chosen.push_back(order_[static_cast<std::size_t>(next % share)]);
  }
  return chosen;
}

MaskedBatch mask(const TextSamples& samples, const std::vector<std::int64_t>& chosen,
                 const deepscale::Tokenizer& tokenizer, const MaskOptions& options) {
  std::seed_seq mixed{options.seed & 0xffffffff, options.seed >> 32, options.step, options.rank};
  std::mt19937_64 random(mixed);
  MaskedBatch batch;
  for (const std::int64_t index : chosen) {
    batch.tokens.insert(batch.tokens.end(), samples.sample(index), samples.sample(index) + samples.length());
  }
  batch.labels.assign(batch.tokens.size(), kIgnored);
  const auto fill_in = [&](std::size_t i) {
    batch.labels[i] = batch.tokens[i];
    const double kind = uniform(random);
    if (kind < 0.8) batch.tokens[i] = options.mask_token;
    if (kind >= 0.9) {
      batch.tokens[i] = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(options.vocabulary));
    }
  };
  bool has_one = false;
  std::size_t last_plain = batch.tokens.size();
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    if (tokenizer.is_special(batch.tokens[i])) continue;
    last_plain = i;
    if (uniform(random) >= options.probability) continue;
    fill_in(i);
    has_one = true;
  }
  if (!has_one && last_plain < batch.tokens.size()) fill_in(last_plain);
  return batch;
}

std::int64_t mask_token_of(const deepscale::Tokenizer& tokenizer) {
  for (const char* name : {"[MASK]", "<mask>"}) {
    if (const auto token = tokenizer.find(name)) return *token;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "the tokenizer has no token [MASK] or <mask>, which this training needs");
}

}  // namespace bert_pretraining
