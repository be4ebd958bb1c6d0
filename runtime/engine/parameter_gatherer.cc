#include "runtime/engine/parameter_gatherer.h"

#include <ATen/record_function.h>
#include <torch/torch.h>

namespace deepscale {

struct ParameterGatherer::Unit {
  UnitOptions options;
  ShardHome home;
  std::int64_t numel;
  at::Tensor whole;  // [numel] while gathered
  std::optional<TensorWork> arriving;
  int pins = 0;
};

ParameterGatherer::ParameterGatherer(TensorCollectives& collectives, GatherLimits limits)
    : collectives_(collectives), limits_(limits) {}

ParameterGatherer::~ParameterGatherer() {
  for (Unit& unit : units_) {
    for (const Member& member : unit.options.members) {
      set_shard_memory(member.parameter, nullptr, nullptr);
    }
  }
}

void ParameterGatherer::add_unit(UnitOptions options) {
  const int index = static_cast<int>(units_.size());
  const std::int64_t numel = options.shard.numel() * collectives_.size();
  units_.push_back({.options = std::move(options), .home = {this, index}, .numel = numel});
  attach(units_.back());
}

void ParameterGatherer::start() {
  std::vector<std::int64_t> numels;
  for (const Unit& unit : units_) numels.push_back(unit.numel);
  schedule_.emplace(std::move(numels), limits_);
  gather_persistent();
  observe_operators();
}

void ParameterGatherer::refresh() {
  const std::lock_guard lock(mutex_);
  for (const int index : schedule_->release_all()) release(units_[static_cast<std::size_t>(index)]);
  gather_persistent();
}

void ParameterGatherer::gather_persistent() {
  for (Unit& unit : units_) {
    if (unit.options.is_persistent) gather(unit);
  }
  for (Unit& unit : units_) {
    if (unit.options.is_persistent) wait(unit);
  }
}

void ParameterGatherer::begin_use(int index) {
  const std::lock_guard lock(mutex_);
  if (units_[static_cast<std::size_t>(index)].pins == 0) begin_use_locked(index);
}

void ParameterGatherer::begin_use_locked(int index) {
  const at::RecordFunctionGuard not_observed(false);
  const at::NoGradGuard no_grad;
  Unit& used = units_[static_cast<std::size_t>(index)];
  if (used.options.is_persistent) return;
  const GatherSchedule::Decision decision = schedule_->begin_use(index);
  try {
    for (const int released : decision.release) release(units_[static_cast<std::size_t>(released)]);
    for (const int gathered : decision.gather) gather(units_[static_cast<std::size_t>(gathered)]);
    wait(used);
  } catch (const std::exception&) {
    if (!failure_) failure_ = std::current_exception();
    used.arriving.reset();
    used.whole = at::zeros({used.numel}, used.options.shard.options());
    attach(used);
  }
}

void ParameterGatherer::end_use(int index, bool was_written) {
  const std::lock_guard lock(mutex_);
  const at::RecordFunctionGuard not_observed(false);
  const at::NoGradGuard no_grad;
  Unit& unit = units_[static_cast<std::size_t>(index)];
  if (unit.pins > 0) return;
  if (!unit.options.is_persistent) schedule_->end_use(index);
  if (was_written && !failure_) write_back(unit);
}

void ParameterGatherer::pin(int index) {
  const std::lock_guard lock(mutex_);
  Unit& unit = units_[static_cast<std::size_t>(index)];
  if (unit.pins == 0) begin_use_locked(index);
  ++unit.pins;
}

void ParameterGatherer::unpin(int index, bool was_written) {
  const std::lock_guard lock(mutex_);
  const at::RecordFunctionGuard not_observed(false);
  const at::NoGradGuard no_grad;
  Unit& unit = units_[static_cast<std::size_t>(index)];
  if (--unit.pins == 0 && !unit.options.is_persistent) schedule_->end_use(index);
  if (was_written && !failure_) write_back(unit);
}

void ParameterGatherer::write_back(Unit& unit) {
  const std::int64_t slice = unit.options.shard.numel();
  unit.options.shard.copy_(unit.whole.narrow(0, collectives_.rank() * slice, slice));
  if (unit.options.on_written) unit.options.on_written();
}

void ParameterGatherer::gather(Unit& unit) {
  if (!unit.whole.defined()) unit.whole = at::empty({unit.numel}, unit.options.shard.options());
  unit.arriving.emplace(collectives_.all_gather(unit.options.shard, unit.whole));
}

void ParameterGatherer::wait(Unit& unit) {
  if (!unit.arriving) return;
  unit.arriving->wait();
  unit.arriving.reset();
  attach(unit);
}

// Gives the parameters their memory, or takes it away.
void ParameterGatherer::attach(Unit& unit) {
  for (const Member& member : unit.options.members) {
    char* memory = nullptr;
    if (unit.whole.defined()) {
      memory = static_cast<char*>(unit.whole.data_ptr()) +
               member.offset * static_cast<std::int64_t>(unit.whole.element_size());
    }
    set_shard_memory(member.parameter, memory, &unit.home);
  }
}

void ParameterGatherer::release(Unit& unit) {
  unit.arriving.reset();
  unit.whole.reset();
  attach(unit);
}

void ParameterGatherer::rethrow_failure() {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

std::int64_t ParameterGatherer::gathered_bytes() const {
  const std::lock_guard lock(mutex_);
  std::int64_t bytes = 0;
  for (const Unit& unit : units_) {
    if (unit.whole.defined()) bytes += static_cast<std::int64_t>(unit.whole.nbytes());
  }
  return bytes;
}

}  // namespace deepscale
