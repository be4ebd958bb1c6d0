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
#include "runtime/checkpoint/crc32.h"
#include "runtime/checkpoint/model_writer.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/saved_pieces.h"
#include "runtime/engine/first_failure.h"

namespace deepscale {
namespace {

namespace fs = std::filesystem;
using ParameterShapes = std::map<std::string, std::vector<std::int64_t>>;

constexpr const char* kRandomState = "rng/cpu";

const char* stored_dtype(const std::string& name, at::ScalarType type) {
  static const std::map<at::ScalarType, const char*> dtypes = {
      {at::kFloat, "F32"}, {at::kDouble, "F64"}, {at::kBFloat16, "BF16"},   {at::kHalf, "F16"},
      {at::kLong, "I64"},  {at::kInt, "I32"},    {at::kShort, "I16"},       {at::kChar, "I8"},
      {at::kByte, "U8"},   {at::kBool, "BOOL"},  {at::kComplexFloat, "C64"}};
  const auto found = dtypes.find(type);
  if (found != dtypes.end()) return found->second;
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("checkpoint: '{}' is of type {}, for which files of safetensors have no name; keep it "
                  "out of the model's buffers, or in another type",
                  name, c10::toString(type)));
}

// Runs the action on every rank. Where it fails on any, all of them throw: the others with the words of the
// first rank that failed.
void together(TensorCollectives& collectives, const char* what, const std::function<void()>& action) {
  constexpr std::size_t kMaxWords = 1024;
  at::Tensor words = at::zeros({static_cast<std::int64_t>(kMaxWords)}, at::kByte);
  FirstFailure failure([&](const std::exception& error) {
    std::strncpy(static_cast<char*>(words.data_ptr()), error.what(), kMaxWords - 1);
  });
  failure.attempt(action);
  at::Tensor first =
      at::full({1}, failure.has_happened() ? collectives.rank() : collectives.size(), at::kInt);
  collectives.all_reduce(first, ReduceOp::kMin).wait();
  const int first_rank = first.item<int>();
  if (first_rank == collectives.size()) return;
  collectives.broadcast(words, first_rank).wait();
  failure.rethrow();
  throw Error(ErrorCode::kAborted, fmt::format("{} failed on rank {}: {}", what, first_rank,
                                               static_cast<const char*>(words.data_ptr())));
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

// Their files lie in a folder of that name.
void require_same_tag(TensorCollectives& collectives, const std::string& tag) {
  const auto hash = std::int64_t{Crc32(Crc32::kIeee).of(tag.data(), tag.size())};
  const at::Tensor greatest = at::tensor({hash, -hash}, at::kLong);
  collectives.all_reduce(greatest, ReduceOp::kMax).wait();
  if (greatest[0].item<std::int64_t>() == -greatest[1].item<std::int64_t>()) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("saving a checkpoint: the ranks do not name the same tag, and it is '{}' on rank {}; a "
                  "value that differs between ranks, like their own loss, is to be reduced first",
                  tag, collectives.rank()));
}

// What keeps the tensor alive, as the saver wants it.
TensorToSave to_save(const std::string& name, const at::Tensor& tensor, bool is_shared) {
  const auto owner = std::make_shared<at::Tensor>(tensor);
  return {.name = name,
          .dtype = stored_dtype(name, tensor.scalar_type()),
          .shape = tensor.sizes().vec(),
          .data = std::shared_ptr<const void>(owner, owner->data_ptr()),
          .is_shared = is_shared,
          .read = nullptr};
}

// Read when it is written, so that what does not fit into memory need not.
TensorToSave to_stream(const std::string& name, Optimizer& optimizer, const Optimizer::Range& range) {
  constexpr std::int64_t kElementBytes = sizeof(float);
  return {.name = name,
          .dtype = stored_dtype(name, at::kFloat),
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
        if (subject.optimizer.reads_from_file(range)) {
          all.push_back(to_stream(name, subject.optimizer, range));
        } else {
          all.push_back(to_save(name, subject.optimizer.read(range),
                                in_background && subject.optimizer.reads_in_place(range)));
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
                                           .last_overflow_step = scaler.last_overflow_step,
                                           .is_dynamic = subject.loss_scaler.is_dynamic()},
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

void require_like(const SafetensorsReader& reader, const std::string& name, const at::Tensor& like) {
  const auto found = reader.entries().find(name);
  if (found == reader.entries().end() || found->second.shape != like.sizes().vec() ||
      found->second.dtype != stored_dtype(name, like.scalar_type())) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: '{}' is not there, or of another shape or type than in this model",
                            reader.path().string(), name));
  }
}

at::Tensor read_like(SafetensorsReader& reader, const std::string& name, const at::Tensor& like) {
  require_like(reader, name, like);
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
  // A scale that was or is to be static says nothing of where a dynamic one stands.
  if (!index.loss_scaler.is_dynamic || !subject.loss_scaler.is_dynamic()) return;
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
  std::optional<SavedPieces> saved;
};

// All that needs no collective, but for the fixed tensors.
ReadCheckpoint read_checkpoint(const CheckpointSubject& subject, CheckpointName& name) {
  if (name.tag.empty()) name.tag = latest_tag(name.directory);
  const fs::path folder = name.directory / name.tag;
  const CheckpointIndex index = read_checkpoint_index(folder);
  require_same_model(index.parameters, subject.tensors, folder);
  ReadCheckpoint read;
  SavedPieces& saved = read.saved.emplace(folder, index.files);
  for (const NamedTensor& fixed : fixed_tensors(subject.tensors))
    require_like(saved.files().front(), fixed.name, fixed.tensor);
  read_pieces(subject, saved);
  if (static_cast<int>(saved.files().size()) == subject.collectives.size()) {
    SafetensorsReader& own = saved.files()[static_cast<std::size_t>(subject.collectives.rank())];
    restore_random_state(read_like(own, kRandomState, random_state()));
  }
  restore_counters(index, subject);
  read.client_state = index.client_state;
  return read;
}

// One after the other, since they may not all fit into memory. To write a sharded one is a collective.
void read_fixed_tensors(const CheckpointSubject& subject, SafetensorsReader& reader) {
  FirstFailure failure;
  for (const NamedTensor& fixed : fixed_tensors(subject.tensors)) {
    at::Tensor values = at::zeros({1}, fixed.tensor.scalar_type());
    failure.attempt([&] { values = read_like(reader, fixed.name, fixed.tensor); });
    fixed.tensor.copy_(values);
  }
  together(subject.collectives, "loading a checkpoint", [&] { failure.rethrow(); });
}

}  // namespace

void start_checkpoint(const CheckpointSubject& subject, const CheckpointName& name,
                      const CheckpointSaveOptions& options, CheckpointSaver& saver) {
  const at::NoGradGuard no_grad;
  // On all ranks, since what one alone refuses the others would wait for.
  for (const NamedTensor& fixed : fixed_tensors(subject.tensors))
    stored_dtype(fixed.name, fixed.tensor.scalar_type());
  require_same_tag(subject.collectives, name.tag);
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
  } catch (const Error& error) {
    saver.give_up(error.what());
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
  FirstFailure failure;
  const auto attempt = [&](const std::function<void()>& action) {
    if (writes) failure.attempt(action);
  };
  attempt([&] {
    std::vector<DeclaredTensor> declared;
    for (const auto& [name, tensor] : weights)
      declared.push_back({name, stored_dtype(name, tensor.scalar_type()), tensor.sizes().vec()});
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
  together(subject.collectives, "saving the model", [&] { failure.rethrow(); });
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
  read_fixed_tensors(subject, read.saved->files().front());
  subject.stage.rethrow_failure();
  return read.client_state;
}

}  // namespace deepscale
