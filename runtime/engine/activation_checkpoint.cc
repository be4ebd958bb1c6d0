#include "runtime/engine/activation_checkpoint.h"

#include <torch/torch.h>

#include <memory>
#include <mutex>

#include "comm/base/error.h"

namespace deepscale {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Generator generator_of(c10::DeviceType device) {
  return at::globalContext().defaultGenerator(device);
}

at::Tensor random_state_of(at::Generator generator) {
  const std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(at::Generator generator, const at::Tensor& state) {
  const std::lock_guard lock(generator.mutex());
  generator.set_state(state);
}

// The random states that a function on these inputs may use: the CPU's, and that of the inputs' device.
struct RandomStates {
  std::vector<std::pair<at::Generator, at::Tensor>> states;

  static RandomStates of(const std::vector<at::Tensor>& inputs) {
    RandomStates all;
    const auto add = [&](const at::Generator& generator) {
      all.states.emplace_back(generator, random_state_of(generator));
    };
    add(generator_of(at::kCPU));
    for (const at::Tensor& input : inputs) {
      if (!input.defined() || !input.is_cuda()) continue;
      add(generator_of(at::kCUDA));
      break;
    }
    return all;
  }
  void restore() const {
    for (const auto& [generator, state] : states) set_random_state(generator, state);
  }
};

// What backward needs. A node of autograd holds it.
struct Recomputation : torch::CustomClassHolder {
  TensorFunction function;
  CheckpointOptions options;
  RandomStates random;
  std::vector<c10::Device> devices;  // of the inputs

  // Of the inputs, detached, so that a graph begins at them.
  std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs) const {
    const RandomStates present = RandomStates::of(inputs);
    random.restore();
    try {
      std::vector<at::Tensor> outputs = function(inputs);
      present.restore();
      return outputs;
    } catch (...) {
      present.restore();
      throw;
    }
  }
};

class CheckpointFunction : public torch::autograd::Function<CheckpointFunction> {
 public:
  static variable_list forward(AutogradContext* context,
                               const c10::intrusive_ptr<Recomputation>& recomputation, const at::Tensor&,
                               at::TensorList given) {
    const variable_list inputs = given.vec();
    context->set_materialize_grads(false);
    recomputation->random = RandomStates::of(inputs);
    variable_list kept;
    for (const at::Tensor& input : inputs) {
      recomputation->devices.push_back(input.device());
      kept.push_back(recomputation->options.inputs_on_host ? input.cpu() : input);
    }
    context->saved_data["recomputation"] = c10::IValue::make_capsule(recomputation);
    context->save_for_backward(std::move(kept));
    const at::AutoGradMode without_recording(false);
    return recomputation->function(inputs);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (at::GradMode::is_enabled()) {
      throw Error(ErrorCode::kUnsupported,
                  "deepscale::checkpoint: higher derivatives (create_graph) need the activations; call the "
                  "function without it");
    }
    const auto recomputation =
        c10::static_intrusive_pointer_cast<Recomputation>(context->saved_data["recomputation"].toCapsule());
    const variable_list saved = context->get_saved_variables();
    variable_list inputs;
    for (std::size_t i = 0; i < saved.size(); ++i) {
      at::Tensor input = saved[i].to(recomputation->devices[i]).detach();
      input.set_requires_grad(context->needs_input_grad(i + 1));
      inputs.push_back(std::move(input));
    }
    const at::AutoGradMode recording(true);
    run_backward(recomputation->run(inputs), gradients);
    variable_list of_inputs = {at::Tensor(), at::Tensor()};  // of the recomputation and the anchor
    for (const at::Tensor& input : inputs) of_inputs.push_back(input.grad());
    return of_inputs;
  }

 private:
  static void run_backward(const variable_list& outputs, const variable_list& gradients) {
    variable_list roots, root_gradients;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (!outputs[i].requires_grad() || !gradients[i].defined()) continue;
      roots.push_back(outputs[i]);
      root_gradients.push_back(gradients[i]);
    }
    if (!roots.empty()) torch::autograd::backward(roots, root_gradients);
  }
};

}  // namespace

std::vector<at::Tensor> checkpoint_tensors(TensorFunction function, const std::vector<at::Tensor>& inputs,
                                           CheckpointOptions options) {
  if (!at::GradMode::is_enabled()) return function(inputs);
  auto recomputation = c10::make_intrusive<Recomputation>();
  recomputation->function = std::move(function);
  recomputation->options = options;
  // Asks for a gradient where no input does, so that backward comes here for the function's parameters.
  const at::Tensor anchor = torch::empty({0}, at::TensorOptions(at::kFloat).requires_grad(true));
  return CheckpointFunction::apply(recomputation, anchor, at::TensorList(inputs));
}

}  // namespace deepscale
