// The scope in which parameters of an Engine's module are whole.
#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <unordered_set>

#include "comm/base/error.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/engine_parts.h"
#include "runtime/engine/sharded_tensor.h"

namespace deepscale {

namespace {

// The masters of parameters that the program has changed start anew from them.
void adopt_written(const ModelTensors& tensors, const ZeroStage& stage, Optimizer& optimizer,
                   const std::vector<at::Tensor>& written) {
  std::unordered_set<std::string> names;
  for (std::size_t i = 0; i < tensors.trainable.size(); ++i) {
    const at::Tensor& parameter = tensors.trainable[i];
    if (std::any_of(written.begin(), written.end(),
                    [&](const at::Tensor& tensor) { return tensor.is_same(parameter); }))
      names.insert(tensors.trainable_names[i]);
  }
  for (const SegmentPiece& piece : stage.pieces()) {
    const Segment& segment = stage.layout()[piece.segment];
    if (names.count(piece.parameter) == 0 || !segment.has_master_apart()) continue;
    optimizer.write(
        {.quantity = "master", .segment = piece.segment, .begin = piece.segment_offset, .numel = piece.numel},
        segment.parameter.part(piece.segment_offset, piece.numel).read());
  }
}

}  // namespace

void Engine::pin(const std::vector<torch::Tensor>& parameters) {
  for (const torch::Tensor& parameter : parameters) {
    if (const ShardHome* home = shard_home_of(parameter)) home->owner->pin(home->unit);
  }
  // The program may change them now: nobody else may read them any more.
  parts_->saver.release_tensors();
  parts_->stage->begin_update();
  parts_->rethrow_failure();
}

void Engine::unpin(const std::vector<torch::Tensor>& parameters, std::optional<int> modifier_rank) {
  const torch::NoGradGuard no_grad;
  parts_->saver.release_tensors();
  try {
    for (const torch::Tensor& parameter : parameters) {
      if (modifier_rank) broadcast_values(parameter, parts_->collectives, *modifier_rank);
      if (const ShardHome* home = shard_home_of(parameter))
        home->owner->unpin(home->unit, modifier_rank.has_value());
    }
    if (modifier_rank) adopt_written(parts_->tensors, *parts_->stage, *parts_->optimizer, parameters);
    parts_->rethrow_failure();
  } catch (const std::exception&) {
    parts_->failure = std::current_exception();
    parts_->fail("GatheredParameters");
  }
}

GatheredParameters::GatheredParameters(Engine& engine, std::vector<torch::Tensor> parameters,
                                       std::optional<int> modifier_rank)
    : engine_(engine), parameters_(std::move(parameters)), modifier_rank_(modifier_rank) {
  if (modifier_rank && (*modifier_rank < 0 || *modifier_rank >= engine.world_size())) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("GatheredParameters: there is no rank {} among {}",
                                                         *modifier_rank, engine.world_size()));
  }
  engine_.pin(parameters_);
}

GatheredParameters::~GatheredParameters() {
  try {
    finish();
  } catch (const std::exception&) {  // the next collective says it again
  }
}

void GatheredParameters::finish() {
  const std::vector<torch::Tensor> pinned = std::exchange(parameters_, {});
  if (!pinned.empty()) engine_.unpin(pinned, modifier_rank_);
}

}  // namespace deepscale
