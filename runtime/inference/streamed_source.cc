#include "runtime/inference/streamed_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "comm/base/error.h"
#include "runtime/checkpoint/mapped_file.h"
#include "runtime/inference/direct_file.h"

namespace deepscale {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kBytesPerRead = 4 << 20;

std::int64_t round_down(std::int64_t bytes) {
  return bytes / kDirectAlignment * kDirectAlignment;
}
std::int64_t round_up(std::int64_t bytes) {
  return round_down(bytes + kDirectAlignment - 1);
}

// Room that a part takes in a buffer: the blocks that it touches.
std::int64_t room_of(const FilePart& part) {
  return part.bytes == 0 ? 0 : round_up(part.offset + part.bytes) - round_down(part.offset);
}

std::int64_t room_of(const std::array<StreamedMatrix, kLayerMatrices>& layer) {
  std::int64_t room = 0;
  for (const StreamedMatrix& matrix : layer) room += room_of(matrix.data) + room_of(matrix.scales);
  return room;
}

[[noreturn]] void throw_cut_short(const std::filesystem::path& path, std::int64_t end) {
  throw Error(ErrorCode::kProtocol,
              fmt::format("{} ends at byte {}, before the weights that it should hold do: it was cut short",
                          path.string(), end));
}

class StreamedSource : public LayerSource {
 public:
  StreamedSource(StreamedLayers layers, const StreamOptions& options) : layers_(std::move(layers)) {
    for (const std::filesystem::path& path : layers_.files)
      files_.push_back(std::make_unique<DirectFile>(path));
    std::int64_t room = 0;
    for (const auto& layer : layers_.layers) room = std::max(room, room_of(layer));
    buffers_.resize(std::min<std::size_t>(static_cast<std::size_t>(std::max(options.buffers, 2)),
                                          std::max<std::size_t>(layers_.layers.size(), 2)));
    for (Buffer& buffer : buffers_) {
      buffer.memory = allocate_direct(room);
      bytes_ += room;
    }
    for (int i = 0; i < std::max(options.readers, 1); ++i) readers_.emplace_back([this] { serve(); });
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < buffers_.size(); ++i) fill(buffers_[i]);
    work_.notify_all();
  }

  ~StreamedSource() override {
    {
      const std::lock_guard lock(mutex_);
      stops_ = true;
    }
    work_.notify_all();
    for (std::thread& reader : readers_) reader.join();
  }

  const LayerMatrices& acquire(std::int64_t layer) override {
    std::unique_lock lock(mutex_);
    if (used_ != nullptr) {
      fill(*std::exchange(used_, nullptr));
      work_.notify_all();
    }
    Buffer& buffer = buffer_with(layer);
    done_.wait(lock, [&] { return failure_ != nullptr || buffer.reads_left == 0; });
    if (failure_ != nullptr) std::rethrow_exception(failure_);
    used_ = &buffer;
    transfer_ = {buffer.bytes, buffer.started.time_since_epoch(), buffer.finished - buffer.started};
    return buffer.matrices;
  }

  std::int64_t resident_bytes() const override { return bytes_; }
  Transfer last_transfer() const override { return transfer_; }

 private:
  struct Buffer {
    DirectMemory memory;
    std::int64_t layer = -1;
    LayerMatrices matrices;
    std::size_t reads_left = 0;
    std::int64_t bytes = 0;
    bool has_started = false;
    Clock::time_point started, finished;
  };
  struct Read {
    Buffer* buffer = nullptr;
    std::size_t file = 0;
    std::int64_t offset = 0;
    std::int64_t bytes = 0;
    std::int64_t needed = 0;  // of these; the rest of the last block may lie behind the end of the file
    std::byte* destination = nullptr;
  };

  // Layers are fetched in order, and asked for in order.
  Buffer& buffer_with(std::int64_t layer) {
    for (Buffer& buffer : buffers_)
      if (buffer.layer == layer) return buffer;
    throw Error(ErrorCode::kInternal, fmt::format("layer {} was asked for out of order", layer));
  }

  // Queues the reads of the next layer. The mutex is held.
  void fill(Buffer& buffer) {
    buffer.layer = next_layer_;
    next_layer_ = (next_layer_ + 1) % static_cast<std::int64_t>(layers_.layers.size());
    buffer.bytes = 0;
    buffer.has_started = false;
    std::byte* place = buffer.memory.get();
    for (int i = 0; i < kLayerMatrices; ++i) {
      const StreamedMatrix& matrix = layers_.layers[buffer.layer][i];
      buffer.matrices[i] = matrix.shape;
      buffer.matrices[i].data = queue(buffer, matrix.data, place);
      buffer.matrices[i].scales = reinterpret_cast<const BandScales*>(queue(buffer, matrix.scales, place));
    }
  }

  // Queues the reads of one part to `place`, moves it on, and returns where the part's first byte will be.
  const std::byte* queue(Buffer& buffer, const FilePart& part, std::byte*& place) {
    if (part.bytes == 0) return nullptr;
    const std::int64_t begin = round_down(part.offset), end = round_up(part.offset + part.bytes);
    const std::byte* first = place + (part.offset - begin);
    for (std::int64_t at = begin; at < end; at += kBytesPerRead) {
      const std::int64_t bytes = std::min(kBytesPerRead, end - at);
      reads_.push_back({&buffer, part.file, at, bytes, std::min(bytes, part.offset + part.bytes - at),
                        place + (at - begin)});
      ++buffer.reads_left;
    }
    buffer.bytes += part.bytes;
    place += end - begin;
    return first;
  }

  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [&] { return stops_ || !reads_.empty(); });
      if (stops_) return;
      const Read read = reads_.front();
      reads_.pop_front();
      if (!std::exchange(read.buffer->has_started, true)) read.buffer->started = Clock::now();
      lock.unlock();
      std::exception_ptr failure;
      try {
        perform(read);
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      if (failure != nullptr && failure_ == nullptr) failure_ = failure;
      if (--read.buffer->reads_left == 0) read.buffer->finished = Clock::now();
      if (failure != nullptr || read.buffer->reads_left == 0) done_.notify_all();
    }
  }

  void perform(const Read& read) const {
    const DirectFile& file = *files_[read.file];
    const std::int64_t count = file.read(read.offset, read.bytes, read.destination);
    if (count < read.needed) throw_cut_short(file.path(), read.offset + count);
  }

  StreamedLayers layers_;
  std::vector<std::unique_ptr<DirectFile>> files_;
  std::vector<Buffer> buffers_;
  std::int64_t bytes_ = 0;
  Transfer transfer_;

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::deque<Read> reads_;
  std::int64_t next_layer_ = 0;
  Buffer* used_ = nullptr;
  std::exception_ptr failure_;
  bool stops_ = false;
  std::vector<std::thread> readers_;
};

class MappedLayers : public LayerSource {
 public:
  explicit MappedLayers(const StreamedLayers& layers) {
    for (const std::filesystem::path& path : layers.files)
      files_.push_back(std::make_unique<MappedFile>(path));
    for (const auto& layer : layers.layers) {
      LayerMatrices& matrices = layers_.emplace_back();
      for (int i = 0; i < kLayerMatrices; ++i) {
        matrices[i] = layer[i].shape;
        matrices[i].data = place_of(layer[i].data);
        matrices[i].scales = reinterpret_cast<const BandScales*>(place_of(layer[i].scales));
        bytes_ += layer[i].data.bytes + layer[i].scales.bytes;
      }
    }
  }
  const LayerMatrices& acquire(std::int64_t layer) override { return layers_[layer]; }
  std::int64_t resident_bytes() const override { return bytes_; }

 private:
  const std::byte* place_of(const FilePart& part) const {
    if (part.bytes == 0) return nullptr;
    const MappedFile& file = *files_[part.file];
    if (part.offset + part.bytes > static_cast<std::int64_t>(file.size()))
      throw_cut_short(file.path(), static_cast<std::int64_t>(file.size()));
    return file.data() + part.offset;
  }

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<LayerMatrices> layers_;
  std::int64_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<LayerSource> make_mapped_source(StreamedLayers layers) {
  return std::make_unique<MappedLayers>(layers);
}

StreamedLayers layers_in_files(const ModelWeights& weights) {
  StreamedLayers result;
  for (std::int64_t layer = 0; layer < weights.config().layers; ++layer) {
    const auto places = weights.layer_places(layer);
    auto& matrices = result.layers.emplace_back();
    for (int i = 0; i < kLayerMatrices; ++i) {
      if (places[i].matrix.rows == 0) continue;
      const std::filesystem::path& path = places[i].view.file->path();
      auto file = std::find(result.files.begin(), result.files.end(), path);
      if (file == result.files.end()) file = result.files.insert(file, path);
      matrices[i].shape = places[i].matrix;
      matrices[i].data = {static_cast<std::size_t>(file - result.files.begin()), places[i].view.offset,
                          places[i].view.bytes};
    }
  }
  return result;
}

std::unique_ptr<LayerSource> make_streamed_source(StreamedLayers layers, const StreamOptions& options) {
  return std::make_unique<StreamedSource>(std::move(layers), options);
}

}  // namespace deepscale
