#include "runtime/engine/parameter_gatherer.h"

#include <ATen/record_function.h>
#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>

namespace deepscale {

struct ParameterGatherer::Unit {
  UnitOptions options;
  ShardHome home;
  std::int64_t numel;
  at::Tensor whole;  // [numel] while gathered
  SliceFetch fetch;  // this rank's part of it
  std::optional<TensorWork> arriving;
  int pins = 0;

  at::TensorOptions tensor_options() const { return options.members.front().parameter.options(); }
};

ParameterGatherer::ParameterGatherer(TensorCollectives& collectives, GatherLimits limits)
    : collectives_(collectives), limits_(limits), failure_([this](const std::exception& error) {
        collectives_.communicator().abort(fmt::format("parameters cannot be gathered: {}", error.what()));
      }) {}

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
  const std::vector<int> live = schedule_->live_unheld();
  for (const int index : live) stop_gathering(units_[static_cast<std::size_t>(index)]);
  failure_.attempt([&] {
    for (const int index : live) gather(units_[static_cast<std::size_t>(index)]);
    gather_persistent();
  });
  failure_.rethrow();
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
  for (const int released : decision.release) release(units_[static_cast<std::size_t>(released)]);
  failure_.attempt([&] {
    for (const int gathered : decision.gather) gather(units_[static_cast<std::size_t>(gathered)]);
    spares_.clear();
    wait(used);
  });
  if (failure_.has_happened()) give_zeros(used);
}

void ParameterGatherer::give_zeros(Unit& unit) {
  stop_gathering(unit);
  if (!unit.whole.defined()) unit.whole = take_memory(unit);
  unit.whole.zero_();
  attach(unit);
}

void ParameterGatherer::end_use(int index, bool was_written) {
  const std::lock_guard lock(mutex_);
  const at::RecordFunctionGuard not_observed(false);
  const at::NoGradGuard no_grad;
  Unit& unit = units_[static_cast<std::size_t>(index)];
  if (unit.pins > 0) return;
  if (!unit.options.is_persistent) schedule_->end_use(index);
  if (was_written) write_back(unit);
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
  if (was_written) write_back(unit);
}

void ParameterGatherer::write_back(Unit& unit) {
  failure_.attempt([&] {
    const at::Tensor values = own_part(unit);
    if (unit.options.on_written) unit.options.on_written(values);
    unit.options.shard.write(values);
  });
}

at::Tensor ParameterGatherer::own_part(const Unit& unit) const {
  const std::int64_t slice = unit.options.shard.numel();
  return unit.whole.narrow(0, collectives_.rank() * slice, slice);
}

void ParameterGatherer::gather(Unit& unit) {
  if (!unit.whole.defined()) unit.whole = take_memory(unit);
  const ParameterSlice& shard = unit.options.shard;
  if (shard.is_on(unit.whole.device())) {
    unit.arriving.emplace(collectives_.all_gather(shard.tensor(), unit.whole));
    return;
  }
  unit.fetch = shard.fetch(unit.whole, collectives_.rank() * shard.numel());
  fetching_.push_back(&unit);
  if (!unit.fetch.is_in_flight()) start_all_gathers(unit);
}

// Of what is being fetched, as far as `last`.
void ParameterGatherer::start_all_gathers(Unit& last) {
  if (std::find(fetching_.begin(), fetching_.end(), &last) == fetching_.end()) return;
  for (Unit* next = nullptr; next != &last;) {
    next = fetching_.front();
    fetching_.pop_front();
    next->fetch.wait();
    next->arriving.emplace(collectives_.all_gather(own_part(*next), next->whole));
  }
}

void ParameterGatherer::stop_gathering(Unit& unit) {
  fetching_.erase(std::remove(fetching_.begin(), fetching_.end(), &unit), fetching_.end());
  unit.fetch = {};
  unit.arriving.reset();
}

// Of a unit that was just released, where one is as large: in a model of equal layers mostly so.
at::Tensor ParameterGatherer::take_memory(const Unit& unit) {
  const auto spare = std::find_if(spares_.begin(), spares_.end(), [&](const at::Tensor& memory) {
    return memory.numel() == unit.numel && memory.dtype() == unit.tensor_options().dtype();
  });
  if (spare == spares_.end()) {
    const ParameterSlice& shard = unit.options.shard;
    return shard.memory_for(unit.numel, collectives_.rank() * shard.numel(), unit.tensor_options());
  }
  at::Tensor memory = std::move(*spare);
  spares_.erase(spare);
  return memory;
}

void ParameterGatherer::wait(Unit& unit) {
  start_all_gathers(unit);
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
  stop_gathering(unit);
  spares_.push_back(std::exchange(unit.whole, {}));
  attach(unit);
}

void ParameterGatherer::rethrow_failure() {
  const std::lock_guard lock(mutex_);
  failure_.rethrow();
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
