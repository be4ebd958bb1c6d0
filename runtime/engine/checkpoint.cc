#include "runtime/engine/checkpoint.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <random>

#include "comm/base/error.h"
#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/checkpoint/model_writer.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/saved_pieces.h"

namespace deepscale {
namespace {

namespace fs = std::filesystem;
using ParameterShapes = std::map<std::string, std::vector<std::int64_t>>;

constexpr const char* kRandomState = "rng/cpu";

const char* stored_dtype(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "F32";
    case at::kDouble:
      return "F64";
    case at::kBFloat16:
      return "BF16";
    case at::kHalf:
      return "F16";
    case at::kLong:
      return "I64";
    case at::kInt:
      return "I32";
    case at::kByte:
      return "U8";
    case at::kBool:
      return "BOOL";
    default:
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("checkpoint: a buffer of type {} cannot be saved", c10::toString(type)));
  }
}

// Runs the action on every rank; where it fails on any, all of them throw.
void together(TensorCollectives& collectives, const char* what, const std::function<void()>& action) {
  std::exception_ptr failure;
  try {
    action();
  } catch (const std::exception&) {
    failure = std::current_exception();
  }
  at::Tensor failures = at::full({1}, failure ? 1 : 0, at::kInt);
  collectives.all_reduce(failures, ReduceOp::kSum).wait();
  if (failure) std::rethrow_exception(failure);
  if (failures.item<int>() > 0) {
    throw Error(ErrorCode::kAborted, fmt::format("{} failed on another rank, which says why", what));
  }
}

Optimizer::Range range_of(const SegmentPiece& piece, const std::string& quantity) {
  return {
      .quantity = quantity, .segment = piece.segment, .begin = piece.segment_offset, .numel = piece.numel};
}

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

// Frozen parameters and buffers. At stage 3 reading them is a collective.
std::vector<NamedTensor> fixed_tensors(const ModelTensors& tensors) {
  std::vector<NamedTensor> fixed;
  for (std::size_t i = 0; i < tensors.frozen.size(); ++i)
    fixed.push_back({"frozen/" + tensors.frozen_names[i], tensors.frozen[i].detach()});
  for (std::size_t i = 0; i < tensors.buffers.size(); ++i)
    fixed.push_back({"buffer/" + tensors.buffer_names[i], tensors.buffers[i].detach()});
  return fixed;
}

at::Tensor random_state() {
  auto generator = at::globalContext().defaultGenerator(at::kCPU);
  const std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

void restore_random_state(const at::Tensor& state) {
  auto generator = at::globalContext().defaultGenerator(at::kCPU);
  const std::lock_guard lock(generator.mutex());
  generator.set_state(state);
}

ParameterShapes shapes_of(const ModelTensors& tensors) {
  ParameterShapes shapes;
  for (std::size_t i = 0; i < tensors.trainable.size(); ++i)
    shapes[tensors.trainable_names[i]] = tensors.trainable[i].sizes().vec();
  return shapes;
}

// Saving.

std::int64_t agree_on_id(TensorCollectives& collectives) {
  at::Tensor id = at::full({1}, static_cast<std::int64_t>(std::random_device()()), at::kLong);
  collectives.broadcast(id, 0).wait();
  return id.item<std::int64_t>();
}

// What keeps the tensor alive, as the saver wants it.
TensorToSave to_save(const std::string& name, const at::Tensor& tensor, bool is_shared) {
  const auto owner = std::make_shared<at::Tensor>(tensor);
  return {.name = name,
          .dtype = stored_dtype(tensor.scalar_type()),
          .shape = tensor.sizes().vec(),
          .data = std::shared_ptr<const void>(owner, owner->data_ptr()),
          .is_shared = is_shared,
          .read = nullptr};
}

// Read when it is written, so that what does not fit into memory need not.
TensorToSave to_stream(const std::string& name, Optimizer& optimizer, const Optimizer::Range& range) {
  constexpr std::int64_t kElementBytes = sizeof(float);
  return {.name = name,
          .dtype = stored_dtype(at::kFloat),
          .shape = {range.numel},
          .data = nullptr,
          .read = [&optimizer, range](std::int64_t begin, std::int64_t bytes, void* destination) {
            Optimizer::Range piece = range;
            piece.begin += begin / kElementBytes;
            piece.numel = bytes / kElementBytes;
            std::memcpy(destination, optimizer.read(piece).const_data_ptr(), static_cast<std::size_t>(bytes));
          }};
}

std::vector<TensorToSave> tensors_to_save(const CheckpointSubject& subject, bool in_background) {
  std::vector<TensorToSave> all;
  if (subject.stage.saves_pieces()) {
    const std::vector<SegmentPiece> pieces = subject.stage.pieces();
    for (const std::string& quantity : subject.optimizer.quantities()) {
      for (const SegmentPiece& piece : pieces) {
        const std::string name = fmt::format("{}/{}@{}", piece.parameter, quantity, piece.parameter_offset);
        const Optimizer::Range range = range_of(piece, quantity);
        if (subject.optimizer.reads_from_file(quantity)) {
          all.push_back(to_stream(name, subject.optimizer, range));
        } else {
          all.push_back(to_save(name, subject.optimizer.read(range),
                                in_background && subject.optimizer.reads_in_place(quantity)));
        }
      }
    }
  }
  all.push_back(to_save(kRandomState, random_state(), false));
  for (const NamedTensor& fixed : fixed_tensors(subject.tensors)) {
    // A copy, since a gathered parameter loses its memory when the next one is gathered.
    const at::Tensor values = fixed.tensor.clone(at::MemoryFormat::Contiguous).cpu();
    if (subject.collectives.rank() == 0) all.push_back(to_save(fixed.name, values, false));
  }
  return all;
}

CheckpointIndex index_of(const CheckpointSubject& subject, std::int64_t id, const std::string& client_state) {
  const LossScaler::State& scaler = subject.loss_scaler.state();
  CheckpointIndex index = {.parameters = shapes_of(subject.tensors),
                           .micro_steps = subject.progress.micro_steps,
                           .global_steps = subject.progress.global_steps,
                           .skipped_steps = subject.progress.skipped_steps,
                           .optimizer_steps = subject.optimizer.steps(),
                           .samples = subject.progress.samples,
                           .loss_scaler = {.scale = scaler.scale,
                                           .hysteresis_left = scaler.hysteresis_left,
                                           .step = scaler.step,
                                           .last_overflow_step = scaler.last_overflow_step},
                           .client_state = client_state};
  for (int rank = 0; rank < subject.collectives.size(); ++rank)
    index.files.push_back(checkpoint_file_name(id, rank));
  return index;
}

// Loading.

void require_same_model(const ParameterShapes& saved, const ModelTensors& tensors, const fs::path& path) {
  const ParameterShapes ours = shapes_of(tensors);
  const auto shape_in = [](const ParameterShapes& shapes, const std::string& name) {
    const auto found = shapes.find(name);
    return found == shapes.end() ? "none" : fmt::format("[{}]", fmt::join(found->second, ","));
  };
  for (const ParameterShapes* shapes : {&ours, &saved}) {
    for (const auto& [name, shape] : *shapes) {
      if (shape_in(ours, name) == shape_in(saved, name)) continue;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is of another model: the shape of parameter '{}' is {} here and {} there",
                              path.string(), name, shape_in(ours, name), shape_in(saved, name)));
    }
  }
}

void read_pieces(const CheckpointSubject& subject, SavedPieces& saved) {
  const std::vector<SegmentPiece> pieces = subject.stage.pieces();
  for (const std::string& quantity : subject.optimizer.quantities()) {
    for (const SegmentPiece& piece : pieces) {
      const at::Tensor values = at::empty({piece.numel}, at::kFloat);
      saved.read({piece.parameter, quantity, piece.parameter_offset, piece.numel}, values.data_ptr<float>());
      subject.optimizer.write(range_of(piece, quantity), values);
    }
  }
}

at::Tensor read_like(SafetensorsReader& reader, const std::string& name, const at::Tensor& like) {
  const auto found = reader.entries().find(name);
  if (found == reader.entries().end() || found->second.shape != like.sizes().vec() ||
      found->second.dtype != stored_dtype(like.scalar_type())) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: '{}' is not there, or of another shape or type than in this model",
                            reader.path().string(), name));
  }
  const at::Tensor values = at::empty(like.sizes(), like.scalar_type());
  reader.read(name, values.data_ptr());
  return values;
}

void restore_counters(const CheckpointIndex& index, const CheckpointSubject& subject) {
  subject.progress = {.micro_steps = index.micro_steps,
                      .global_steps = index.global_steps,
                      .skipped_steps = index.skipped_steps,
                      .samples = index.samples};
  subject.optimizer.restore_steps(index.optimizer_steps);
  subject.loss_scaler.restore({.scale = index.loss_scaler.scale,
                               .hysteresis_left = static_cast<int>(index.loss_scaler.hysteresis_left),
                               .step = index.loss_scaler.step,
                               .last_overflow_step = index.loss_scaler.last_overflow_step});
}

// In pieces, since masters may be in a file.
void copy_masters_to_parameters(const CheckpointSubject& subject) {
  constexpr std::int64_t kPieceNumel = 4 * 1024 * 1024;
  const std::vector<Segment>& segments = subject.stage.layout();
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (!segments[i].has_master_apart()) continue;
    const ParameterSlice& parameter = segments[i].parameter;
    for (std::int64_t begin = 0; begin < parameter.numel(); begin += kPieceNumel) {
      const std::int64_t numel = std::min(kPieceNumel, parameter.numel() - begin);
      parameter.part(begin, numel)
          .write(
              subject.optimizer.read({.quantity = "master", .segment = i, .begin = begin, .numel = numel}));
    }
  }
}

struct ReadCheckpoint {
  std::string client_state;
  std::vector<at::Tensor> fixed;  // values of fixed_tensors()
};

// All that needs no collective.
ReadCheckpoint read_checkpoint(const CheckpointSubject& subject, CheckpointName& name) {
  if (name.tag.empty()) name.tag = latest_tag(name.directory);
  const fs::path folder = name.directory / name.tag;
  const CheckpointIndex index = read_checkpoint_index(folder);
  require_same_model(index.parameters, subject.tensors, folder);
  SavedPieces saved(folder, index.files);
  read_pieces(subject, saved);
  ReadCheckpoint read;
  for (const NamedTensor& fixed : fixed_tensors(subject.tensors))
    read.fixed.push_back(read_like(saved.files().front(), fixed.name, fixed.tensor));
  if (static_cast<int>(saved.files().size()) == subject.collectives.size()) {
    SafetensorsReader& own = saved.files()[static_cast<std::size_t>(subject.collectives.rank())];
    restore_random_state(read_like(own, kRandomState, random_state()));
  }
  restore_counters(index, subject);
  read.client_state = index.client_state;
  return read;
}

}  // namespace

void start_checkpoint(const CheckpointSubject& subject, const CheckpointName& name,
                      const CheckpointSaveOptions& options, CheckpointSaver& saver) {
  const at::NoGradGuard no_grad;
  CheckpointPart part{.directory = name.directory,
                      .tag = name.tag,
                      .id = agree_on_id(subject.collectives),
                      .rank = subject.collectives.rank(),
                      .tensors = tensors_to_save(subject, options.in_background),
                      .keep_last = options.keep_last};
  subject.stage.rethrow_failure();
  if (part.rank == 0) part.index = index_of(subject, part.id, options.client_state);
  saver.start(std::move(part));
}

void finish_checkpoint(TensorCollectives& collectives, CheckpointSaver& saver) {
  try {
    together(collectives, "saving a checkpoint", [&] { saver.wait_for_write(); });
  } catch (const Error&) {
    saver.give_up("saving a checkpoint failed on another rank, which says why");
    try {
      saver.wait();
    } catch (const Error&) {  // the first one says more
    }
    throw;
  }
  together(collectives, "saving a checkpoint", [&] { saver.wait(); });
}

namespace {

// Weights by name, as they are in the model; gathered where they are needed.
std::vector<NamedTensor> weights_of(const ModelTensors& tensors) {
  std::vector<NamedTensor> weights;
  const auto add = [&](const std::vector<std::string>& names, const std::vector<at::Tensor>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) weights.push_back({names[i], values[i].detach()});
  };
  add(tensors.trainable_names, tensors.trainable);
  add(tensors.frozen_names, tensors.frozen);
  add(tensors.buffer_names, tensors.buffers);
  return weights;
}

}  // namespace

void save_model(const CheckpointSubject& subject, const fs::path& directory) {
  const at::NoGradGuard no_grad;
  const std::vector<NamedTensor> weights = weights_of(subject.tensors);
  const bool writes = subject.collectives.rank() == 0;
  std::optional<ModelWriter> writer;
  std::exception_ptr failure;
  const auto attempt = [&](const std::function<void()>& action) {
    try {
      if (writes && !failure) action();
    } catch (const std::exception&) {
      failure = std::current_exception();
    }
  };
  attempt([&] {
    std::vector<DeclaredTensor> declared;
    for (const auto& [name, tensor] : weights)
      declared.push_back({name, stored_dtype(tensor.scalar_type()), tensor.sizes().vec()});
    writer.emplace(directory, declared);
  });
  for (const NamedTensor& weight : weights) {  // on every rank: at stage 3 reading is a collective
    const at::Tensor values = weight.tensor.clone(at::MemoryFormat::Contiguous);
    attempt([&] {
      const at::Tensor on_host = values.cpu();
      writer->write(on_host.data_ptr(), static_cast<std::int64_t>(on_host.nbytes()));
    });
  }
  attempt([&] {
    subject.stage.rethrow_failure();
    writer->finish();
  });
  subject.stage.rethrow_failure();
  together(subject.collectives, "saving the model", [&] {
    if (failure) std::rethrow_exception(failure);
  });
}

std::string load_checkpoint(const CheckpointSubject& subject, CheckpointName& name) {
  const at::NoGradGuard no_grad;
  ReadCheckpoint read;
  subject.stage.begin_update();
  together(subject.collectives, "loading a checkpoint", [&] {
    read = read_checkpoint(subject, name);
    copy_masters_to_parameters(subject);
  });
  subject.stage.publish_parameters();
  const std::vector<NamedTensor> in_model = fixed_tensors(subject.tensors);
  for (std::size_t i = 0; i < in_model.size(); ++i) in_model[i].tensor.copy_(read.fixed[i]);
  subject.stage.rethrow_failure();
  return read.client_state;
}

}  // namespace deepscale
