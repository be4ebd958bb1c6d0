#include "runtime/engine/checkpoint.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "comm/base/error.h"
#include "runtime/checkpoint/durable_file.h"
#include "runtime/checkpoint/safetensors.h"

namespace deepscale {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kIndexName = "checkpoint.json";
constexpr const char* kLatestName = "latest";
constexpr const char* kMaster = "master";
constexpr const char* kRandomState = "rng/cpu";
constexpr int kFormat = 1;

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

// "master", and what the optimizer keeps; one flat tensor for each segment.
std::vector<Optimizer::Moments> quantities_of(const CheckpointSubject& subject) {
  std::vector<Optimizer::Moments> quantities = subject.optimizer.moments();
  quantities.push_back({kMaster, {}});
  for (const Segment& segment : subject.stage.layout()) quantities.back().tensors.push_back(segment.master);
  return quantities;
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

// Saving.

std::int64_t agree_on_id(TensorCollectives& collectives) {
  at::Tensor id = at::full({1}, static_cast<std::int64_t>(std::random_device()()), at::kLong);
  collectives.broadcast(id, 0).wait();
  return id.item<std::int64_t>();
}

std::string file_name(std::int64_t id, int rank) {
  return fmt::format("{:08x}.rank_{}.safetensors", id, rank);
}

std::vector<NamedTensor> tensors_to_save(const CheckpointSubject& subject) {
  std::vector<NamedTensor> all;
  if (subject.stage.saves_pieces()) {
    const std::vector<SegmentPiece> pieces = subject.stage.pieces();
    for (const Optimizer::Moments& quantity : quantities_of(subject)) {
      for (const SegmentPiece& piece : pieces) {
        const at::Tensor flat = quantity.tensors[piece.segment].view({-1});
        all.push_back({fmt::format("{}/{}@{}", piece.parameter, quantity.name, piece.parameter_offset),
                       flat.narrow(0, piece.segment_offset, piece.numel).cpu().contiguous()});
      }
    }
  }
  all.push_back({kRandomState, random_state()});
  for (const NamedTensor& fixed : fixed_tensors(subject.tensors)) {
    // A copy, since a gathered parameter loses its memory when the next one is gathered.
    const at::Tensor values = fixed.tensor.clone(at::MemoryFormat::Contiguous).cpu();
    if (subject.collectives.rank() == 0) all.push_back({fixed.name, values});
  }
  return all;
}

void make_folder(const fs::path& folder) {
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) {
    throw Error(ErrorCode::kSystem, fmt::format("cannot save a checkpoint: cannot make the folder {}: {}",
                                                folder.string(), failure.message()));
  }
}

void write_file(const fs::path& path, const std::vector<NamedTensor>& tensors) {
  std::vector<StoredTensor> stored;
  for (const auto& [name, tensor] : tensors) {
    stored.push_back({name, stored_dtype(tensor.scalar_type()), tensor.sizes().vec(), tensor.data_ptr()});
  }
  try {
    write_safetensors(path, stored);
  } catch (const Error&) {
    std::error_code ignored;
    fs::remove(path, ignored);
    throw;
  }
}

Json shapes_of(const ModelTensors& tensors) {
  Json shapes = Json::object();
  for (std::size_t i = 0; i < tensors.trainable.size(); ++i)
    shapes[tensors.trainable_names[i]] = tensors.trainable[i].sizes().vec();
  return shapes;
}

Json index_of(const CheckpointSubject& subject, std::int64_t id, const std::string& client_state) {
  const LossScaler::State& scaler = subject.loss_scaler.state();
  Json files = Json::array();
  for (int rank = 0; rank < subject.collectives.size(); ++rank) files.push_back(file_name(id, rank));
  return {{"format", kFormat},
          {"files", files},
          {"world_size", subject.collectives.size()},
          {"parameters", shapes_of(subject.tensors)},
          {"micro_steps", subject.progress.micro_steps},
          {"global_steps", subject.progress.global_steps},
          {"skipped_steps", subject.progress.skipped_steps},
          {"optimizer_steps", subject.optimizer.steps()},
          {"loss_scaler",
           {{"scale", scaler.scale},
            {"hysteresis_left", scaler.hysteresis_left},
            {"step", scaler.step},
            {"last_overflow_step", scaler.last_overflow_step}}},
          {"client_state", client_state}};
}

// Files of earlier saves under this tag, and of saves that did not come to their end.
void remove_stale_files(const fs::path& folder, const Json& index) {
  const Json& files = index["files"];
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const bool is_ours = std::find(files.begin(), files.end(), Json(name)) != files.end();
    if (entry.path().extension() == ".safetensors" && !is_ours) fs::remove(entry.path(), ignored);
  }
}

// Loading.

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Error(ErrorCode::kNotFound, fmt::format("no checkpoint: there is no file {}", path.string()));
  return {std::istreambuf_iterator<char>(file), {}};
}

Json read_index(const fs::path& path) {
  const Json index = Json::parse(read_text(path), nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || index.value("format", 0) != kFormat) {
    throw Error(ErrorCode::kProtocol,
                fmt::format("{}: damaged, or of another version of DeepScale", path.string()));
  }
  return index;
}

void require_same_model(const Json& index, const ModelTensors& tensors, const fs::path& path) {
  const Json ours = shapes_of(tensors);
  const Json& saved = index.at("parameters");
  const auto shape_in = [](const Json& shapes, const std::string& name) {
    return shapes.contains(name) ? shapes[name].dump() : std::string("none");
  };
  for (const Json* shapes : {&ours, &saved}) {
    for (const auto& [name, shape] : shapes->items()) {
      if (shape_in(ours, name) == shape_in(saved, name)) continue;
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} is of another model: the shape of parameter '{}' is {} here and {} there",
                              path.string(), name, shape_in(ours, name), shape_in(saved, name)));
    }
  }
}

// Runs of elements in all files, by parameter and quantity.
class SavedPieces {
 public:
  explicit SavedPieces(std::vector<SafetensorsReader>& readers) : readers_(readers) {
    for (std::size_t file = 0; file < readers.size(); ++file) {
      for (const auto& [name, entry] : readers[file].entries()) {
        const std::size_t mark = name.rfind('@');
        if (mark == std::string::npos || entry.dtype != "F32" || entry.shape.size() != 1) continue;
        const std::int64_t offset = std::strtoll(name.c_str() + mark + 1, nullptr, 10);
        runs_[name.substr(0, mark)].push_back({file, name, offset, entry.shape[0]});
      }
    }
  }

  // Fills `destination`, which is the piece.
  void read(const SegmentPiece& piece, const std::string& quantity, const at::Tensor& destination) {
    const std::string key = piece.parameter + "/" + quantity;
    std::int64_t filled = 0;
    for (const Run& run : runs_[key]) {
      const std::int64_t begin = std::max(run.offset, piece.parameter_offset);
      const std::int64_t end = std::min(run.offset + run.numel, piece.parameter_offset + piece.numel);
      if (begin >= end) continue;
      const at::Tensor values = at::empty({run.numel}, at::kFloat);
      readers_[run.file].read(run.name, values.data_ptr());
      destination.narrow(0, begin - piece.parameter_offset, end - begin)
          .copy_(values.narrow(0, begin - run.offset, end - begin));
      filled += end - begin;
    }
    if (filled == piece.numel) return;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("checkpoint: {} of the {} elements of '{}' that this rank needs are in its "
                            "files; was it saved with another optimizer?",
                            filled, piece.numel, key));
  }

 private:
  struct Run {
    std::size_t file;
    std::string name;
    std::int64_t offset;
    std::int64_t numel;
  };
  std::vector<SafetensorsReader>& readers_;
  std::map<std::string, std::vector<Run>> runs_;
};

void read_pieces(const CheckpointSubject& subject, std::vector<SafetensorsReader>& readers) {
  SavedPieces saved(readers);
  const std::vector<SegmentPiece> pieces = subject.stage.pieces();
  for (const Optimizer::Moments& quantity : quantities_of(subject)) {
    for (const SegmentPiece& piece : pieces) {
      const at::Tensor flat = quantity.tensors[piece.segment].view({-1});
      saved.read(piece, quantity.name, flat.narrow(0, piece.segment_offset, piece.numel));
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

void restore_counters(const Json& index, const CheckpointSubject& subject) {
  subject.progress = {.micro_steps = index.at("micro_steps"),
                      .global_steps = index.at("global_steps"),
                      .skipped_steps = index.at("skipped_steps")};
  subject.optimizer.restore_steps(index.at("optimizer_steps"));
  const Json& scaler = index.at("loss_scaler");
  subject.loss_scaler.restore({.scale = scaler.at("scale"),
                               .hysteresis_left = scaler.at("hysteresis_left"),
                               .step = scaler.at("step"),
                               .last_overflow_step = scaler.at("last_overflow_step")});
}

struct ReadCheckpoint {
  std::string client_state;
  std::vector<at::Tensor> fixed;  // values of fixed_tensors()
};

// All that needs no collective.
ReadCheckpoint read_checkpoint(const CheckpointSubject& subject, CheckpointName& name) {
  if (name.tag.empty()) name.tag = read_text(name.directory / kLatestName);
  const fs::path folder = name.directory / name.tag;
  const Json index = read_index(folder / kIndexName);
  require_same_model(index, subject.tensors, folder);
  std::vector<SafetensorsReader> readers;
  for (const Json& file : index.at("files")) readers.emplace_back(folder / file.get<std::string>());
  read_pieces(subject, readers);
  ReadCheckpoint read;
  for (const NamedTensor& fixed : fixed_tensors(subject.tensors))
    read.fixed.push_back(read_like(readers.at(0), fixed.name, fixed.tensor));
  if (static_cast<int>(readers.size()) == subject.collectives.size()) {
    SafetensorsReader& own = readers[static_cast<std::size_t>(subject.collectives.rank())];
    restore_random_state(read_like(own, kRandomState, random_state()));
  }
  restore_counters(index, subject);
  read.client_state = index.at("client_state");
  return read;
}

}  // namespace

void save_checkpoint(const CheckpointSubject& subject, const CheckpointName& name,
                     const std::string& client_state) {
  const at::NoGradGuard no_grad;
  TensorCollectives& collectives = subject.collectives;
  const fs::path folder = name.directory / name.tag;
  const std::int64_t id = agree_on_id(collectives);
  const std::vector<NamedTensor> tensors = tensors_to_save(subject);
  subject.stage.rethrow_failure();
  together(collectives, "saving a checkpoint", [&] {
    make_folder(folder);
    write_file(folder / file_name(id, collectives.rank()), tensors);
  });
  together(collectives, "saving a checkpoint", [&] {
    if (collectives.rank() != 0) return;
    const Json index = index_of(subject, id, client_state);
    replace_file(folder / kIndexName, index.dump(1));
    replace_file(name.directory / kLatestName, name.tag);
    remove_stale_files(folder, index);
  });
}

std::string load_checkpoint(const CheckpointSubject& subject, CheckpointName& name) {
  const at::NoGradGuard no_grad;
  ReadCheckpoint read;
  together(subject.collectives, "loading a checkpoint", [&] { read = read_checkpoint(subject, name); });
  for (const Segment& segment : subject.stage.layout()) {
    if (!segment.master.is_same(segment.parameter)) segment.parameter.copy_(segment.master);
  }
  subject.stage.publish_parameters();
  const std::vector<NamedTensor> in_model = fixed_tensors(subject.tensors);
  for (std::size_t i = 0; i < in_model.size(); ++i) in_model[i].tensor.copy_(read.fixed[i]);
  subject.stage.rethrow_failure();
  return read.client_state;
}

}  // namespace deepscale
