// The layers of a decoder on a device: all of them, or two, which are filled in turn from the host while the
// device computes.
#pragma once

#include <c10/core/Event.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "runtime/device_inference/device_clock.h"
#include "runtime/device_inference/device_matrix.h"
#include "runtime/inference/decoder.h"
#include "runtime/inference/layer_source.h"

namespace deepscale {

class DeviceLayers {
 public:
  struct Options {
    std::int64_t layers = 0;
    bool keeps_on_host = false;
    bool pins = false;
    bool times = false;
  };
  DeviceLayers(std::unique_ptr<LayerSource> source, const DeviceStreams& streams, const Options& options);
  // Waits for copies under way.
  ~DeviceLayers();
  DeviceLayers(const DeviceLayers&) = delete;
  DeviceLayers& operator=(const DeviceLayers&) = delete;

  // In order, 0 to the last, step after step. Operators of the compute stream may use it until finish(),
  // which says that all of them have been launched. Throws what the source throws.
  const DeviceMatrices& acquire(std::int64_t layer);
  void finish(std::int64_t layer);

  std::int64_t bytes() const;  // on the device
  // As Decoder::read_layers().
  LayerReading read();
  // Of the step that has ended, whose layers were all finished. Empty unless timed.
  std::span<const LayerTiming> timings();

 private:
  // A place for one layer.
  struct Slot {
    DeviceMatrices matrices;
    std::optional<c10::Event> filled, free;
    std::int64_t bytes_brought = 0;
    DeviceClock::Mark fill_begin, fill_end;
  };
  struct Marks {
    DeviceClock::Mark asked, got, done, fill_begin, fill_end;
    std::int64_t bytes_brought = 0;
  };

  DeviceMatrices make_matrices(const DeviceMatrices& like) const;
  void fill_next();
  void set_free(Slot& slot) const;  // for the copies that come after all operators launched so far

  std::unique_ptr<LayerSource> source_;
  const DeviceStreams streams_;
  const Options options_;
  DeviceClock clock_;
  std::vector<DeviceMatrices> resident_;  // by layer, unless they are kept on the host
  std::vector<DeviceMatrices> pinned_;    // on the host, by layer
  std::vector<Slot> slots_;
  std::int64_t filled_ = 0;  // layers that were brought, over all steps
  std::vector<Marks> marks_;
  std::vector<LayerTiming> timings_;
};

}  // namespace deepscale
