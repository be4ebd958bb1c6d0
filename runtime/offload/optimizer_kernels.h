// The arithmetic of the optimizers on the CPU: one pass over gradient, master weight and moments that also
// writes the 16-bit parameter.
//
// Everything is computed in fp32. The gradient is multiplied by one factor first, which stands for the loss
// scale and clipping. The loops are compiled for AVX-512, AVX2 and the processor that the build is for, and
// chosen at run time; all give the same bits, and so does any division of the elements among calls and
// threads. Functions are thread-safe; none blocks or fails.
//
// Adam: Kingma & Ba, 2015. AdamW: Loshchilov & Hutter, 2019. Lion: Chen et al., 2023. Adagrad: Duchi et al.,
// 2011. The order of operations is that of LibTorch's optimizers.
#pragma once

#include <array>
#include <cstdint>

#include "comm/base/dtype.h"
#include "comm/base/instruction_set.h"
#include "runtime/config/config.h"

namespace deepscale {

// What an optimizer keeps for each element besides the master weight.
bool has_first_moment(const OptimizerConfig& config);   // SGD's momentum too
bool has_second_moment(const OptimizerConfig& config);  // Adagrad's sum of squares too

struct OptimizerStep {
  std::int64_t number = 1;  // counts from 1
  double learning_rate = 0.0;
  std::array<double, 2> betas = {0.0, 0.0};
  double gradient_factor = 1.0;
};

// The numbers of one step, as the loops take them.
struct UpdateRule {
  OptimizerKind kind = OptimizerKind::kAdamW;
  float gradient_factor = 1.0f;
  float learning_rate = 0.0f;  // Adam: divided by the first bias correction
  float decay = 1.0f;          // the weight is multiplied by it (AdamW, Lion)
  float l2 = 0.0f;             // so much of the weight is added to the gradient (Adam, SGD, Adagrad)
  std::array<float, 2> kept = {0.0f, 0.0f};   // of the moments; Lion: in the direction, in the momentum
  std::array<float, 2> added = {1.0f, 1.0f};  // of the gradient, to the moments
  float root_factor = 1.0f;  // the root of the second moment is multiplied by it (bias correction)
  float eps = 0.0f;
  bool has_momentum = false;                      // SGD
  std::array<float, 2> direction = {1.0f, 0.0f};  // SGD with momentum: so much of gradient and of momentum
};
UpdateRule make_update_rule(const OptimizerConfig& config, const OptimizerStep& step);

// `numel` elements, all arrays apart from each other; nothing has to be aligned beyond its element.
struct UpdateSpan {
  float* master = nullptr;
  const void* gradient = nullptr;
  DType gradient_dtype = DType::kFloat32;  // kFloat32, kBFloat16, kFloat16
  float* first_moment = nullptr;           // null where the optimizer has none
  float* second_moment = nullptr;
  void* parameter = nullptr;  // gets the new weight, rounded; null where the model reads the master
  DType parameter_dtype = DType::kFloat32;
  std::int64_t numel = 0;

  UpdateSpan part(std::int64_t begin, std::int64_t count) const;
};

void update(const UpdateRule& rule, const UpdateSpan& span);
// With loops for one instruction set; for tests, which compare them.
void update_with(InstructionSet set, const UpdateRule& rule, const UpdateSpan& span);

}  // namespace deepscale
