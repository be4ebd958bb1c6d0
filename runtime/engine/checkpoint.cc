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
                  "out of the model, or in another type",
                  name, c10::toString(type)));
}

// Runs the action on every rank. Where it fails on any, all of them throw: the others with the words of the
// first rank that failed.
void together(TensorCollectives& collectives, const char* what, const std::function<void()>& action) {
  constexpr std::size_t kMaxWords = 1024;
  at::Tensor words = at::zeros({static_cast<std::int64_t>(kMaxWords)}, at::kByte);
  FirstFailure failure([&](const std::exception& error) {
    const std::string what = error.what();
    what.substr(0, what.find('\n')).copy(static_cast<char*>(words.data_ptr()), kMaxWords - 1);
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

std::vector<NamedTensor> named(const std::vector<std::string>& names, const std::vector<at::Tensor>& tensors,
                               const std::string& prefix = "") {
  std::vector<NamedTensor> result;
  for (std::size_t i = 0; i < tensors.size(); ++i) result.push_back({prefix + names[i], tensors[i].detach()});
  return result;
}

std::vector<NamedTensor> frozen_of(const ModelTensors& tensors) {
  return named(tensors.frozen_names, tensors.frozen);
}

std::vector<NamedTensor> buffers_of(const ModelTensors& tensors) {
  return named(tensors.buffer_names, tensors.buffers, "buffer/");
}

constexpr const char* kFrozen = "frozen";  // the quantity of a frozen parameter that is its values

using FrozenShard = ParameterStorage::FrozenShard;

// By name; not of those that every rank has whole.
std::map<std::string, FrozenShard> frozen_shards_of(const CheckpointSubject& subject) {
  std::map<std::string, FrozenShard> shards;
  for (FrozenShard& shard : subject.stage.frozen_shards()) shards.emplace(shard.name, std::move(shard));
  return shards;
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

ParameterShapes shapes_of(const std::vector<std::string>& names, const std::vector<at::Tensor>& tensors) {
  ParameterShapes shapes;
  for (std::size_t i = 0; i < tensors.size(); ++i) shapes[names[i]] = tensors[i].sizes().vec();
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

// Read when it is written, so that what does not fit into memory need not. `read` gives elements on the CPU.
TensorToSave to_stream(const std::string& name, at::ScalarType dtype, std::int64_t numel,
                       std::function<at::Tensor(std::int64_t begin, std::int64_t numel)> read) {
  const auto element_bytes = static_cast<std::int64_t>(c10::elementSize(dtype));
  return {.name = name,
          .dtype = stored_dtype(name, dtype),
          .shape = {numel},
          .data = nullptr,
          .read = [element_bytes, read = std::move(read)](std::int64_t begin, std::int64_t bytes,
                                                          void* destination) {
            const at::Tensor values = read(begin / element_bytes, bytes / element_bytes);
            std::memcpy(destination, values.const_data_ptr(), static_cast<std::size_t>(bytes));
          }};
}

void add_optimizer_tensors(const CheckpointSubject& subject, bool in_background,
                           std::vector<TensorToSave>& all) {
  Optimizer& optimizer = subject.optimizer;
  const std::vector<SegmentPiece> pieces = subject.stage.pieces();
  for (const std::string& quantity : optimizer.quantities()) {
    for (const SegmentPiece& piece : pieces) {
      const std::string name = piece_name(piece.parameter, quantity, piece.parameter_offset);
      const Optimizer::Range range = range_of(piece, quantity);
      if (optimizer.reads_from_file(range)) {
        all.push_back(to_stream(name, at::kFloat, range.numel,
                                [&optimizer, range](std::int64_t begin, std::int64_t numel) {
                                  Optimizer::Range part = range;
                                  part.begin += begin;
                                  part.numel = numel;
                                  return optimizer.read(part);
                                }));
      } else {
        all.push_back(to_save(name, optimizer.read(range), in_background && optimizer.reads_in_place(range)));
      }
    }
  }
}

// This rank's shards, and rank 0's values of what every rank has whole, as with buffers: the program may have
// changed them there alone. In the background copies, since it may go on with that, and training reads those
// in a file.
void add_frozen_tensors(const CheckpointSubject& subject, bool in_background,
                        std::vector<TensorToSave>& all) {
  const auto shards = frozen_shards_of(subject);
  for (const auto& [parameter, tensor] : frozen_of(subject.tensors)) {
    const auto found = shards.find(parameter);
    if (found == shards.end() && subject.collectives.rank() != 0) continue;
    const std::int64_t offset = found == shards.end() ? 0 : found->second.offset;
    const ParameterSlice values = found == shards.end() ? tensor.contiguous() : found->second.values;
    if (values.numel() == 0) continue;
    const std::string name = piece_name(parameter, kFrozen, offset);
    if (values.is_in_file() && !in_background) {
      all.push_back(to_stream(name, values.dtype(), values.numel(),
                              [values = values](std::int64_t begin, std::int64_t numel) {
                                return values.part(begin, numel).read();
                              }));
    } else {
      const at::Tensor now = values.read().cpu();
      all.push_back(to_save(name, in_background ? now.clone() : now, false));
    }
  }
}

std::vector<TensorToSave> tensors_to_save(const CheckpointSubject& subject, bool in_background) {
  std::vector<TensorToSave> all;
  if (subject.stage.saves_pieces()) add_optimizer_tensors(subject, in_background, all);
  add_frozen_tensors(subject, in_background, all);
  all.push_back(to_save(kRandomState, random_state(), false));
  if (subject.collectives.rank() != 0) return all;
  for (const auto& [name, buffer] : buffers_of(subject.tensors)) {
    // The next forward pass may change it.
    const at::Tensor values =
        in_background ? buffer.clone(at::MemoryFormat::Contiguous) : buffer.contiguous();
    all.push_back(to_save(name, values.cpu(), false));
  }
  return all;
}

CheckpointIndex index_of(const CheckpointSubject& subject, std::int64_t id, const std::string& client_state) {
  const LossScaler::State& scaler = subject.loss_scaler.state();
  CheckpointIndex index = {
      .parameters = shapes_of(subject.tensors.trainable_names, subject.tensors.trainable),
      .frozen_parameters = shapes_of(subject.tensors.frozen_names, subject.tensors.frozen),
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

void require_same_shapes(const ParameterShapes& saved, const ParameterShapes& ours, const std::string& kind,
                         const fs::path& path) {
  const auto shape_in = [](const ParameterShapes& shapes, const std::string& name) {
    const auto found = shapes.find(name);
    return found == shapes.end() ? "none" : fmt::format("[{}]", fmt::join(found->second, ","));
  };
  for (const ParameterShapes* shapes : {&ours, &saved}) {
    for (const auto& [name, shape] : *shapes) {
      if (shape_in(ours, name) == shape_in(saved, name)) continue;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is of another model: the shape of {} '{}' is {} here and {} there",
                              path.string(), kind, name, shape_in(ours, name), shape_in(saved, name)));
    }
  }
}

void require_same_model(const CheckpointIndex& index, const ModelTensors& tensors, const fs::path& path) {
  require_same_shapes(index.parameters, shapes_of(tensors.trainable_names, tensors.trainable), "parameter",
                      path);
  require_same_shapes(index.frozen_parameters, shapes_of(tensors.frozen_names, tensors.frozen),
                      "frozen parameter", path);
}

void read_optimizer(const CheckpointSubject& subject, SavedPieces& saved) {
  const std::vector<SegmentPiece> pieces = subject.stage.pieces();
  for (const std::string& quantity : subject.optimizer.quantities()) {
    for (const SegmentPiece& piece : pieces) {
      const at::Tensor values = at::empty({piece.numel}, at::kFloat);
      saved.read({piece.parameter, quantity, piece.parameter_offset, piece.numel}, "F32", values.data_ptr());
      subject.optimizer.write(range_of(piece, quantity), values);
    }
  }
}

void require_same_frozen_types(const CheckpointSubject& subject, const SavedPieces& saved,
                               const fs::path& path) {
  for (const auto& [name, tensor] : frozen_of(subject.tensors)) {
    const std::string ours = stored_dtype(name, tensor.scalar_type());
    const std::string theirs = saved.dtype_of(name, kFrozen);
    if (tensor.numel() == 0 || ours == theirs) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: the frozen parameter '{}' is of type {} there and {} here; load the "
                            "checkpoint with the dtype that it was saved with",
                            path.string(), name, theirs, ours));
  }
}

// One after the other, since they may not all fit into memory.
void read_frozen(const CheckpointSubject& subject, SavedPieces& saved) {
  const auto shards = frozen_shards_of(subject);
  for (const auto& [name, tensor] : frozen_of(subject.tensors)) {
    const auto read = [&, &name = name](std::int64_t offset, std::int64_t numel, at::ScalarType dtype) {
      const at::Tensor values = at::empty({numel}, dtype);
      saved.read({name, kFrozen, offset, numel}, stored_dtype(name, dtype), values.data_ptr());
      return values;
    };
    const auto found = shards.find(name);
    if (found == shards.end()) {
      tensor.copy_(read(0, tensor.numel(), tensor.scalar_type()).view(tensor.sizes()));
    } else {
      const ParameterSlice& slice = found->second.values;
      slice.write(read(found->second.offset, slice.numel(), slice.dtype()));
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

void read_buffers(const CheckpointSubject& subject, SafetensorsReader& reader) {
  for (const NamedTensor& buffer : buffers_of(subject.tensors))
    buffer.tensor.copy_(read_like(reader, buffer.name, buffer.tensor));
}

// Returns the client state. Needs no collective.
std::string read_checkpoint(const CheckpointSubject& subject, CheckpointName& name) {
  if (name.tag.empty()) name.tag = latest_tag(name.directory);
  const fs::path folder = name.directory / name.tag;
  const CheckpointIndex index = read_checkpoint_index(folder);
  require_same_model(index, subject.tensors, folder);
  SavedPieces saved(folder, index.files);
  for (const NamedTensor& buffer : buffers_of(subject.tensors))
    require_like(saved.files().front(), buffer.name, buffer.tensor);
  require_same_frozen_types(subject, saved, folder);
  read_optimizer(subject, saved);
  read_frozen(subject, saved);
  read_buffers(subject, saved.files().front());
  if (static_cast<int>(saved.files().size()) == subject.collectives.size()) {
    SafetensorsReader& own = saved.files()[static_cast<std::size_t>(subject.collectives.rank())];
    restore_random_state(read_like(own, kRandomState, random_state()));
  }
  restore_counters(index, subject);
  return index.client_state;
}

}  // namespace

void start_checkpoint(const CheckpointSubject& subject, const CheckpointName& name,
                      const CheckpointSaveOptions& options, CheckpointSaver& saver) {
  const at::NoGradGuard no_grad;
  // On all ranks, since what one alone refuses the others would wait for.
  for (const auto& tensors : {frozen_of(subject.tensors), buffers_of(subject.tensors)}) {
    for (const auto& [tensor_name, tensor] : tensors) stored_dtype(tensor_name, tensor.scalar_type());
  }
  require_same_tag(subject.collectives, name.tag);
  CheckpointPart part{.directory = name.directory,
                      .tag = name.tag,
                      .id = agree_on_id(subject.collectives),
                      .rank = subject.collectives.rank(),
                      .keep_last = options.keep_last};
  together(subject.collectives, "saving a checkpoint", [&] {
    part.tensors = tensors_to_save(subject, options.in_background);
    if (part.rank == 0) part.index = index_of(subject, part.id, options.client_state);
  });
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

void save_model(const CheckpointSubject& subject, const fs::path& directory) {
  const at::NoGradGuard no_grad;
  // As they are in the model; gathered where they are needed.
  std::vector<NamedTensor> weights = named(subject.tensors.trainable_names, subject.tensors.trainable);
  for (const auto& more :
       {frozen_of(subject.tensors), named(subject.tensors.buffer_names, subject.tensors.buffers)})
    weights.insert(weights.end(), more.begin(), more.end());
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
  std::string client_state;
  subject.stage.begin_update();
  together(subject.collectives, "loading a checkpoint", [&] {
    client_state = read_checkpoint(subject, name);
    copy_masters_to_parameters(subject);
  });
  subject.stage.publish_parameters();
  subject.stage.rethrow_failure();
  return client_state;
}

}  // namespace deepscale
