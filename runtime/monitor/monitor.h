// Numbers of a training run over its steps, kept in files that other programs show.
//
//   csv_monitor   OUTPUT/JOB/Train_Samples_lr.csv: a header "step,Train_Samples_lr", a line per value; a
//                 file that is there goes on
//   tensorboard   OUTPUT/JOB/events.out.tfevents.SECONDS.HOST.PID: TFRecords of Event messages
//
// Only rank 0 makes a Monitor. Values reach the files with flush(), which the Engine calls now and then, and
// with the end of the object. Threads: one. Error(kSystem) names the file; a monitor that fails shall not end
// a training run, so the Engine logs it once and goes on without.
// Follows the layout of DeepSpeed's csv_monitor, and TensorBoard's event.proto and summary.proto.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/config/config.h"

namespace deepscale {

struct MonitorValue {
  std::string name;  // "Train/Samples/lr"
  double value = 0.0;
  std::int64_t step = 0;
};

class Monitor {
 public:
  virtual ~Monitor() = default;
  virtual void write(const std::vector<MonitorValue>& values) = 0;
  virtual void flush() = 0;
};

std::unique_ptr<Monitor> make_csv_monitor(const MonitorConfig& config);
std::unique_ptr<Monitor> make_tensorboard_monitor(const MonitorConfig& config);

// One TFRecord around `payload`: its length, and masked CRC-32Cs of both.
std::string tensorboard_record(const std::string& payload);
// The payload of an Event with one scalar value; `wall_time` in seconds since 1970.
std::string tensorboard_event(const MonitorValue& value, double wall_time);

}  // namespace deepscale
