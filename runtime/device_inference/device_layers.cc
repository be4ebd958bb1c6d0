#include "runtime/device_inference/device_layers.h"

#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <torch/torch.h>

#include <utility>

namespace deepscale {
namespace {

constexpr std::size_t kSlots = 2;  // one that is used, one that is filled

void copy(DeviceMatrices& target, const DeviceMatrices& source) {
  for (std::size_t i = 0; i < target.size(); ++i) target[i].copy_from(source[i]);
}

std::int64_t bytes_of(const DeviceMatrices& matrices) {
  std::int64_t bytes = 0;
  for (const DeviceMatrix& matrix : matrices) bytes += matrix.bytes();
  return bytes;
}

}  // namespace

DeviceLayers::DeviceLayers(std::unique_ptr<LayerSource> source, const DeviceStreams& streams,
                           const Options& options)
    : source_(std::move(source)),
      streams_(streams),
      options_(options),
      clock_(streams, options.times),
      marks_(static_cast<std::size_t>(options.layers)) {
  const c10::InferenceMode inference;
  if (!options_.keeps_on_host || options_.pins) {
    for (std::int64_t layer = 0; layer < options_.layers; ++layer) {
      const DeviceMatrices views = views_of(source_->acquire(layer));
      DeviceMatrices& made = (options_.keeps_on_host ? pinned_ : resident_).emplace_back();
      for (std::size_t i = 0; i < views.size(); ++i) {
        made[i] = options_.keeps_on_host
                      ? views[i].empty_like(c10::Device(c10::kCPU), !streams_.device.is_cpu())
                      : views[i].empty_like(streams_.device);
      }
      copy(made, views);
    }
    source_.reset();
  }
  if (!options_.keeps_on_host) return;
  slots_.resize(kSlots);
  fill_next();
}

DeviceLayers::~DeviceLayers() {
  for (const Slot& slot : slots_) {
    if (slot.filled) slot.filled->synchronize();
  }
}

void DeviceLayers::fill_next() {
  const c10::InferenceMode inference;
  const std::int64_t layer = filled_ % options_.layers;
  Slot& slot = slots_[static_cast<std::size_t>(filled_++) % kSlots];
  const DeviceMatrices source =
      pinned_.empty() ? views_of(source_->acquire(layer)) : pinned_[static_cast<std::size_t>(layer)];
  if (!slot.matrices.front().elements.defined()) {
    for (std::size_t i = 0; i < source.size(); ++i) slot.matrices[i] = source[i].empty_like(streams_.device);
    set_free(slot);  // once the operators are done that had this memory before
  }
  const c10::OptionalStreamGuard on_copies(streams_.copies);
  if (slot.free) slot.free->block(*streams_.copies);
  slot.bytes_brought = bytes_of(source);
  slot.fill_begin = clock_.mark(streams_.copies);
  copy(slot.matrices, source);
  slot.fill_end = clock_.mark(streams_.copies);
  if (!streams_.copies) return;
  if (!slot.filled) slot.filled.emplace(streams_.device.type());
  slot.filled->record(*streams_.copies);
}

const DeviceMatrices& DeviceLayers::acquire(std::int64_t layer) {
  Marks& marks = marks_[static_cast<std::size_t>(layer)];
  marks.asked = clock_.mark(streams_.compute);
  if (!options_.keeps_on_host) {
    marks.got = clock_.mark(streams_.compute);
    return resident_[static_cast<std::size_t>(layer)];
  }
  Slot& slot = slots_[static_cast<std::size_t>(filled_ - 1) % kSlots];
  if (slot.filled) slot.filled->block(*streams_.compute);
  marks.got = clock_.mark(streams_.compute);
  marks.fill_begin = std::move(slot.fill_begin);
  marks.fill_end = std::move(slot.fill_end);
  marks.bytes_brought = slot.bytes_brought;
  return slot.matrices;
}

void DeviceLayers::finish(std::int64_t layer) {
  marks_[static_cast<std::size_t>(layer)].done = clock_.mark(streams_.compute);
  if (!options_.keeps_on_host) return;
  set_free(slots_[static_cast<std::size_t>(filled_ - 1) % kSlots]);
  fill_next();
}

void DeviceLayers::set_free(Slot& slot) const {
  if (!streams_.compute) return;
  if (!slot.free) slot.free.emplace(streams_.device.type());
  slot.free->record(*streams_.compute);
}

LayerReading DeviceLayers::read() {
  const c10::InferenceMode inference;
  LayerReading reading;
  for (int round = 0; round < 2; ++round) {  // the first warms up
    const auto start = std::chrono::steady_clock::now();
    reading.bytes = 0;
    at::Tensor mixed = at::zeros({}, at::TensorOptions(at::kFloat).device(streams_.device));
    for (std::int64_t layer = 0; layer < options_.layers; ++layer) {
      for (const DeviceMatrix& matrix : acquire(layer)) {
        reading.bytes += matrix.bytes();
        if (!options_.keeps_on_host && matrix.elements.defined())
          mixed += matrix.elements.sum().to(at::kFloat);
      }
      finish(layer);
    }
    if (streams_.compute) mixed.item<float>();  // until all has been done
    reading.time = std::chrono::steady_clock::now() - start;
  }
  return reading;
}

std::int64_t DeviceLayers::bytes() const {
  std::int64_t bytes = 0;
  for (const DeviceMatrices& layer : resident_) bytes += bytes_of(layer);
  for (const Slot& slot : slots_) bytes += bytes_of(slot.matrices);
  return bytes;
}

std::span<const LayerTiming> DeviceLayers::timings() {
  timings_.clear();
  if (!options_.times) return timings_;
  for (const Marks& marks : marks_) {
    const auto asked = clock_.time(marks.asked), got = clock_.time(marks.got);
    LayerTiming timing{.start = asked, .wait = got - asked, .compute = clock_.time(marks.done) - got};
    if (marks.bytes_brought > 0) {
      const auto begin = clock_.time(marks.fill_begin);
      timing.transfer = {marks.bytes_brought, begin, clock_.time(marks.fill_end) - begin};
    }
    timings_.push_back(timing);
  }
  return timings_;
}

}  // namespace deepscale
