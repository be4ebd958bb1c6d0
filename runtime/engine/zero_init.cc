#include "runtime/engine/zero_init.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <fmt/core.h>
#include <torch/torch.h>

#include <deque>
#include <string_view>
#include <vector>

#include "comm/base/error.h"
#include "runtime/engine/first_failure.h"
#include "runtime/engine/parameter_slice.h"
#include "runtime/engine/sharded_tensor.h"
#include "runtime/engine/tensor_collectives.h"

namespace deepscale::zero {
namespace {

// An operator while it runs, and how deep this thread is in operators: those that one calls are its own
// business. What it writes to is noted before, since its inputs are gone after.
struct Running final : at::ObserverContext {
  Running(int& depth, std::vector<at::Tensor> written) : depth(depth), written(std::move(written)) {
    ++depth;
  }
  ~Running() override { --depth; }
  int& depth;
  const std::vector<at::Tensor> written;
};

bool makes_memory(std::string_view name) {
  return name == "aten::empty" || name == "aten::empty_strided";
}

// The tensors that the operator writes to.
std::vector<at::Tensor> written_by(const at::RecordFunction& function) {
  std::vector<at::Tensor> written;
  const auto name = function.operator_name();
  const auto handle = name ? c10::Dispatcher::singleton().findSchema(*name) : std::nullopt;
  if (!handle) return written;
  const auto& arguments = handle->schema().arguments();
  for (std::size_t i = 0; i < function.inputs().size() && i < arguments.size(); ++i) {
    const c10::AliasInfo* alias = arguments[i].alias_info();
    if (alias != nullptr && alias->isWrite() && function.inputs()[i].isTensor())
      written.push_back(function.inputs()[i].toTensor());
  }
  return written;
}

bool uses_memory_of(const at::RecordFunction& function, const at::Tensor& tensor) {
  const auto is_it = [&](const at::Tensor& input) { return input.defined() && input.is_alias_of(tensor); };
  for (const c10::IValue& input : function.inputs()) {
    if (input.isTensor() && is_it(input.toTensor())) return true;
    if (!input.isTensorList()) continue;
    for (const at::Tensor& element : input.toTensorVector()) {
      if (is_it(element)) return true;
    }
  }
  return false;
}

}  // namespace

struct Init::Parts final : ShardOwner {
  // A tensor that may become a parameter.
  struct Made {
    c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> tensor;
    bool has_values = false;
  };
  struct Unit {
    ShardHome home;
    at::Tensor parameter;
    ParameterSlice shard;
    at::Tensor whole;  // [world size * slice] while it is used
    int uses = 0;
  };

  Parts(std::shared_ptr<Communicator> communicator, InitOptions options)
      : collectives(std::move(communicator)),
        options(std::move(options)),
        failure([this](const std::exception& error) {
          collectives.communicator().abort(fmt::format("zero::Init failed: {}", error.what()));
        }) {
    if (this->options.nvme_path.empty()) return;
    file = std::make_shared<PagedFile>(
        BlockStoreOptions{.folder = this->options.nvme_path,
                          .name = fmt::format("deepscale_init.rank_{}", collectives.rank())});
  }
  ~Parts() override;

  void begin_use(int unit) override;
  void end_use(int unit, bool was_written) override;
  void pin(int unit) override { begin_use(unit); }
  void unpin(int unit, bool was_written) override { end_use(unit, was_written); }
  void forget(int unit) override;
  void rethrow_failure() override;

  void note_made(const at::Tensor& tensor);
  void note_written(const at::Tensor& tensor);
  void shard_what_is_ready(const at::RecordFunction& next);
  void shard(const at::Tensor& parameter);
  void gather(Unit& unit);
  at::Tensor own_part(const Unit& unit) const;

  TensorCollectives collectives;
  const InitOptions options;
  std::shared_ptr<PagedFile> file;  // null: shards are in memory
  std::vector<Made> made;
  std::deque<Unit> units;  // a deque: storages point to its elements
  int depth = 0;
  bool is_over = false;  // an Engine has the parameters: what is made from now on are the program's tensors
  FirstFailure failure;
  at::CallbackHandle callback = 0;

  // Of this thread: ATen's callbacks are plain functions.
  static thread_local Parts* current;
  static std::unique_ptr<at::ObserverContext> before_operator(const at::RecordFunction& function);
  static void after_operator(const at::RecordFunction& function, at::ObserverContext* context);
};

thread_local Init::Parts* Init::Parts::current = nullptr;

std::unique_ptr<at::ObserverContext> Init::Parts::before_operator(const at::RecordFunction& function) {
  if (current == nullptr) return nullptr;
  if (current->depth == 0) current->shard_what_is_ready(function);
  return std::make_unique<Running>(current->depth,
                                   current->made.empty() ? std::vector<at::Tensor>() : written_by(function));
}

void Init::Parts::after_operator(const at::RecordFunction& function, at::ObserverContext* context) {
  if (current == nullptr || context == nullptr) return;
  if (makes_memory(function.name())) {
    if (!function.outputs().empty() && function.outputs()[0].isTensor())
      current->note_made(function.outputs()[0].toTensor());
    return;
  }
  for (const at::Tensor& tensor : static_cast<Running*>(context)->written) current->note_written(tensor);
}

Init::Parts::~Parts() {
  for (Unit& unit : units) {
    if (unit.parameter.defined()) set_shard_memory(unit.parameter, nullptr, nullptr);
  }
}

void Init::Parts::note_made(const at::Tensor& tensor) {
  if (is_over || !tensor.defined() || !tensor.is_floating_point() ||
      tensor.numel() < options.persistence_threshold)
    return;
  made.push_back(
      {c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>(tensor.getIntrusivePtr())});
}

void Init::Parts::note_written(const at::Tensor& tensor) {
  for (Made& candidate : made) {
    const auto alive = candidate.tensor.lock();
    if (alive && at::Tensor(alive).is_alias_of(tensor)) candidate.has_values = true;
  }
}

void Init::Parts::shard_what_is_ready(const at::RecordFunction& next) {
  const at::RecordFunctionGuard not_observed(false);
  const at::NoGradGuard no_grad;
  std::vector<Made> waiting;
  for (const Made& candidate : std::exchange(made, {})) {
    auto alive = candidate.tensor.lock();
    if (!alive) continue;
    const at::Tensor tensor(std::move(alive));
    const bool has_views = tensor.storage().use_count() > 1;
    const bool is_ready = candidate.has_values && tensor.is_leaf() && tensor.requires_grad() &&
                          tensor.is_contiguous() && !has_views && !uses_memory_of(next, tensor);
    if (is_ready) {
      failure.attempt([&] { shard(tensor); });
    } else {
      waiting.push_back(candidate);
    }
  }
  made = std::move(waiting);
}

void Init::Parts::shard(const at::Tensor& parameter) {
  const at::Tensor values = parameter.detach().view({-1});
  collectives.broadcast(values, 0).wait();
  const std::int64_t slice = (values.numel() + collectives.size() - 1) / collectives.size();
  const std::int64_t begin = std::min(values.numel(), slice * collectives.rank());
  const std::int64_t end = std::min(values.numel(), begin + slice);
  Unit& unit = units.emplace_back(Unit{.home = {this, static_cast<int>(units.size())},
                                       .parameter = {},
                                       .shard = file ? ParameterSlice(file, slice, values.scalar_type())
                                                     : at::zeros({slice}, values.options())});
  unit.shard.part(0, end - begin).write(values.narrow(0, begin, end - begin));
  at::Tensor(parameter).set_data(
      tensor_without_memory(parameter.sizes(), parameter.options().requires_grad(false)));
  set_shard_memory(parameter, nullptr, &unit.home);
  unit.parameter = parameter;
}

void Init::Parts::begin_use(int index) {
  const at::RecordFunctionGuard not_observed(false);
  const at::NoGradGuard no_grad;
  Unit& unit = units[static_cast<std::size_t>(index)];
  if (unit.uses++ > 0) return;
  const std::int64_t slice = unit.shard.numel();
  unit.whole = unit.shard.memory_for(slice * collectives.size(), slice * collectives.rank(),
                                     unit.parameter.options().requires_grad(false));
  unit.whole.zero_();
  failure.attempt([&] { gather(unit); });
  set_shard_memory(unit.parameter, unit.whole.data_ptr(), &unit.home);
}

void Init::Parts::gather(Unit& unit) {
  const bool is_here = unit.shard.is_on(unit.whole.device());
  if (!is_here) unit.shard.fetch(unit.whole, unit.shard.numel() * collectives.rank()).wait();
  collectives.all_gather(is_here ? unit.shard.tensor() : own_part(unit), unit.whole).wait();
}

at::Tensor Init::Parts::own_part(const Unit& unit) const {
  return unit.whole.narrow(0, unit.shard.numel() * collectives.rank(), unit.shard.numel());
}

void Init::Parts::end_use(int index, bool was_written) {
  const at::RecordFunctionGuard not_observed(false);
  const at::NoGradGuard no_grad;
  Unit& unit = units[static_cast<std::size_t>(index)];
  if (was_written) {
    failure.attempt([&] {
      collectives.broadcast(unit.whole, 0).wait();
      unit.shard.write(own_part(unit));
    });
  }
  if (--unit.uses > 0) return;
  unit.whole.reset();
  set_shard_memory(unit.parameter, nullptr, &unit.home);
}

void Init::Parts::forget(int index) {
  is_over = true;
  made.clear();
  Unit& unit = units[static_cast<std::size_t>(index)];
  set_shard_memory(unit.parameter, nullptr, nullptr);
  unit.shard = {};
  unit.parameter.reset();
}

InitOptions InitOptions::of(const Config& config) {
  const ZeroConfig& zero = config.zero;
  const bool in_file = zero.stage == 3 && zero.offload_param.device == OffloadDevice::kNvme;
  return {.persistence_threshold = zero.param_persistence_threshold,
          .nvme_path = in_file ? zero.offload_param.nvme_path : ""};
}

Init::Init(std::shared_ptr<Communicator> communicator, InitOptions options) {
  if (Parts::current != nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                "zero::Init: this thread is in another one already; a model is made in one scope");
  }
  const bool is_alone = !communicator || communicator->size() == 1;
  if (is_alone && options.nvme_path.empty()) return;
  if (!communicator) communicator = make_single_communicator();
  parts_ = std::make_unique<Parts>(std::move(communicator), std::move(options));
  Parts::current = parts_.get();
  observe_operators();
  parts_->callback =
      at::addThreadLocalCallback(at::RecordFunctionCallback(&Parts::before_operator, &Parts::after_operator)
                                     .needsInputs(true)
                                     .needsOutputs(true)
                                     .scopes({at::RecordScope::FUNCTION}));
}

Init::~Init() {
  if (!parts_) return;
  at::removeCallback(parts_->callback);
  Parts::current = nullptr;
}

void Init::Parts::rethrow_failure() {
  failure.rethrow();
}

void Init::rethrow_failure() const {
  if (parts_) parts_->rethrow_failure();
}

std::int64_t Init::bytes() const {
  std::int64_t bytes = 0;
  if (!parts_) return bytes;
  for (const Parts::Unit& unit : parts_->units) {
    bytes += unit.shard.bytes();
    if (unit.whole.defined()) bytes += static_cast<std::int64_t>(unit.whole.nbytes());
  }
  return bytes;
}

}  // namespace deepscale::zero
