// Text files as samples of one length, and what is masked in them.
//
// The tokens of all lines stand one after the other; a sample is the next of them between [CLS] and [SEP],
// where the tokenizer has these. Masks are a pure function of seed, step and rank, so that a resumed run sees
// the same.
//
// Blocking; plain values. Error(kNotFound) without files; Error(kInvalidArgument) for a tokenizer without
// [MASK] and for text that does not fill one sample.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "examples/common/distributed_sampler.h"
#include "runtime/tokenizer/tokenizer.h"

namespace bert_pretraining {

class TextSamples {
 public:
  TextSamples(const std::filesystem::path& path, const deepscale::Tokenizer& tokenizer, std::int64_t length);

  std::int64_t count() const { return static_cast<std::int64_t>(tokens_.size()) / length_; }
  std::int64_t length() const { return length_; }
  const std::int64_t* sample(std::int64_t index) const { return tokens_.data() + index * length_; }

 private:
  void append_file(const std::filesystem::path& file, const deepscale::Tokenizer& tokenizer);
  void append_token(std::int64_t token);

  std::int64_t length_;
  std::int64_t class_token_, separator_;  // -1: none
  std::vector<std::int64_t> tokens_;      // whole samples, and in the end one that is not full
};

struct SampleOrderOptions {
  std::int64_t samples = 1;
  std::int64_t batch_size = 1;  // of one rank, in one micro step
  int rank = 0;
  int world_size = 1;
  std::uint64_t seed = 0;
};

// The samples of a rank in a micro step, found from its number alone, so that a resumed run goes on where it
// stopped. Fastest for one number after the other.
class SampleOrder {
 public:
  explicit SampleOrder(const SampleOrderOptions& options);
  std::vector<std::int64_t> of(std::int64_t micro_step);

 private:
  examples::DistributedSampler sampler_;
  std::int64_t batch_size_;
  std::int64_t epoch_ = 0;
  std::vector<std::int64_t> order_;
};

struct MaskOptions {
  double probability = 0.15;
  std::int64_t mask_token = 0;
  std::int64_t vocabulary = 0;
  std::uint64_t seed = 0, step = 0, rank = 0;
};

struct MaskedBatch {
  std::vector<std::int64_t> tokens;  // samples one after the other
  std::vector<std::int64_t> labels;  // the token that was there, or -100
};

// Of the chosen tokens 80 % become [MASK], 10 % another token, and 10 % stay (Devlin et al., 2019). Special
// tokens are never chosen; at least one token of a batch is.
MaskedBatch mask(const TextSamples& samples, const std::vector<std::int64_t>& chosen,
                 const deepscale::Tokenizer& tokenizer, const MaskOptions& options);

// Error(kInvalidArgument) where the tokenizer has none.
std::int64_t mask_token_of(const deepscale::Tokenizer& tokenizer);

}  // namespace bert_pretraining
