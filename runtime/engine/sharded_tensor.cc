#include "runtime/engine/sharded_tensor.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <torch/torch.h>

#include <algorithm>

namespace deepscale {
namespace {

// Marks the storage of a sharded tensor: as the deleter of its memory, which belongs to the owner. The
// context of that memory is the tensor's home.
void leave_memory_to_owner(void*) {}

struct Use {
  ShardHome home;
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
    if (const ShardHome* home = shard_home_of(tensor)) uses.push_back({.home = *home, .argument = argument});
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
  for (const Use& use : context->uses) use.home.owner->begin_use(use.home.unit);
  return context;
}

void after_operator(const at::RecordFunction&, at::ObserverContext* context) {
  if (context == nullptr) return;
  for (const Use& use : static_cast<UsesOfOperator*>(context)->uses) {
    use.home.owner->end_use(use.home.unit, use.is_written);
  }
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

void set_shard_memory(const at::Tensor& tensor, void* memory, const ShardHome* home) {
  c10::DataPtr data = home == nullptr ? c10::DataPtr(memory, tensor.device())
                                      : c10::DataPtr(memory, const_cast<ShardHome*>(home),
                                                     &leave_memory_to_owner, tensor.device());
  tensor.unsafeGetTensorImpl()->unsafe_storage().unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(data));
}

const ShardHome* shard_home_of(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.has_storage()) return nullptr;
  const c10::DataPtr& memory = tensor.unsafeGetTensorImpl()->unsafe_storage().data_ptr();
  return memory.get_deleter() == &leave_memory_to_owner ? static_cast<const ShardHome*>(memory.get_context())
                                                        : nullptr;
}

// ATen's callbacks are plain functions, and this one keeps no state: it is there once for all gatherers.
void observe_operators() {
  static const at::CallbackHandle handle =
      at::addGlobalCallback(at::RecordFunctionCallback(&before_operator, &after_operator)
                                .needsInputs(true)
                                .scopes({at::RecordScope::FUNCTION}));
  (void)handle;
}

at::Tensor take_whole(const at::Tensor& tensor) {
  const ShardHome home = *shard_home_of(tensor);
  at::Tensor whole = tensor.detach().clone();
  home.owner->rethrow_failure();
  home.owner->forget(home.unit);
  return whole;
}

}  // namespace deepscale
