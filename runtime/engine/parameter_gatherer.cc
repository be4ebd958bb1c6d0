#include "runtime/engine/parameter_gatherer.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <torch/torch.h>

#include <algorithm>

namespace deepscale {
namespace {

// Marks the storage of a sharded parameter: as the deleter of its memory, which belongs to the unit. The
// context of that memory is the parameter's unit.
void leave_memory_to_unit(void*) {}

struct Home {
  ParameterGatherer* gatherer;
  int unit;
};

// The unit of a sharded parameter or of a view of it; else null.
const Home* home_of(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.has_storage()) return nullptr;
  const c10::DataPtr& memory = tensor.unsafeGetTensorImpl()->unsafe_storage().data_ptr();
  return memory.get_deleter() == &leave_memory_to_unit ? static_cast<const Home*>(memory.get_context())
                                                       : nullptr;
}

void set_memory(const at::Tensor& parameter, c10::DataPtr memory) {
  parameter.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl()->set_data_ptr_noswap(
      std::move(memory));
}

struct Use {
  Home home;
  std::size_t argument;
  bool is_written = false;
};

struct UsesOfOperator final : at::ObserverContext {
  std::vector<Use> uses;
};

// The sharded parameters among the inputs.
std::vector<Use> find_uses(const at::RecordFunction& function) {
  std::vector<Use> uses;
  const auto note = [&](const at::Tensor& tensor, std::size_t argument) {
    if (const Home* home = home_of(tensor)) uses.push_back({.home = *home, .argument = argument});
  };
  const auto inputs = function.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].isTensor()) {
      note(inputs[i].toTensor(), i);
    } else if (inputs[i].isTensorList()) {
      for (const at::Tensor& tensor : inputs[i].toTensorVector()) note(tensor, i);
    }
  }
  return uses;
}

// Returns what it was given, with other sizes or strides.
bool is_view(const c10::FunctionSchema& schema) {
  return std::any_of(schema.returns().begin(), schema.returns().end(), [](const c10::Argument& result) {
    return result.alias_info() != nullptr && !result.alias_info()->isWrite();
  });
}

bool writes_to(const c10::FunctionSchema& schema, std::size_t argument) {
  const c10::AliasInfo* alias = schema.arguments().at(argument).alias_info();
  return alias != nullptr && alias->isWrite();
}

std::unique_ptr<at::ObserverContext> before_operator(const at::RecordFunction& function) {
  std::vector<Use> uses = find_uses(function);
  if (uses.empty()) return nullptr;
  if (const auto name = function.operator_name()) {
    if (const auto handle = c10::Dispatcher::singleton().findSchema(*name)) {
      if (is_view(handle->schema())) return nullptr;
      for (Use& use : uses) use.is_written = writes_to(handle->schema(), use.argument);
    }
  }
  auto context = std::make_unique<UsesOfOperator>();
  context->uses = std::move(uses);
  for (const Use& use : context->uses) use.home.gatherer->begin_use(use.home.unit);
  return context;
}

void after_operator(const at::RecordFunction&, at::ObserverContext* context) {
  if (context == nullptr) return;
  for (const Use& use : static_cast<UsesOfOperator*>(context)->uses) {
    use.home.gatherer->end_use(use.home.unit, use.is_written);
  }
}

// ATen's callbacks are plain functions, and this one keeps no state: it is there once for all gatherers.
void observe_operators() {
  static const at::CallbackHandle handle =
      at::addGlobalCallback(at::RecordFunctionCallback(&before_operator, &after_operator)
                                .needsInputs(true)
                                .scopes({at::RecordScope::FUNCTION}));
  (void)handle;
}

}  // namespace

at::Tensor tensor_without_memory(at::IntArrayRef sizes, const at::TensorOptions& options) {
  at::Tensor tensor = at::empty({0}, options);
  const auto bytes = static_cast<std::size_t>(c10::multiply_integers(sizes)) * tensor.element_size();
  const c10::Storage storage(c10::make_intrusive<c10::StorageImpl>(
      c10::StorageImpl::use_byte_size_t(), bytes, c10::DataPtr(nullptr, tensor.device()),
      /*allocator=*/nullptr, /*resizable=*/false));
  return tensor.set_(storage, 0, sizes);
}

void pin_parameter(const at::Tensor& parameter) {
  if (const Home* home = home_of(parameter)) home->gatherer->pin(home->unit);
}

void unpin_parameter(const at::Tensor& parameter, bool was_written) {
  if (const Home* home = home_of(parameter)) home->gatherer->unpin(home->unit, was_written);
}

struct ParameterGatherer::Unit {
  UnitOptions options;
  Home home;
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
      set_memory(member.parameter, c10::DataPtr(nullptr, member.parameter.device()));
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
    set_memory(member.parameter,
               c10::DataPtr(memory, &unit.home, &leave_memory_to_unit, unit.options.shard.device()));
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
