#include "launcher/bench/comm_measurement.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "comm/base/half.h"

namespace deepscale {

namespace {

constexpr int kBarriersInARow = 100;

// What rank `rank` puts at `index`: small whole numbers, so that their sum is exact in every dtype, and the
// same every `levels` elements.
int levels_of(int rank_count) {
  return std::clamp(256 / rank_count, 2, 5);
}

int value_of(int rank, std::int64_t index, int rank_count) {
  return static_cast<int>((index * 7 + rank * 3) % levels_of(rank_count));
}

template <typename Stored>
void put_as(std::byte* element, Stored value) {
  std::memcpy(element, &value, sizeof value);
}

void put(std::byte* element, DType dtype, int value) {
  switch (dtype) {
    case DType::kFloat32:
      return put_as(element, static_cast<float>(value));
    case DType::kBFloat16:
      return put_as(element, float_to_bf16(static_cast<float>(value)));
    case DType::kFloat16:
      return put_as(element, float_to_fp16(static_cast<float>(value)));
    case DType::kInt32:
      return put_as(element, static_cast<std::int32_t>(value));
    case DType::kInt64:
      return put_as(element, static_cast<std::int64_t>(value));
    case DType::kUInt8:
      return put_as(element, static_cast<std::uint8_t>(value));
  }
}

// What stands at an index of the whole tensor: one rank's values or the sum of all, as elements of a dtype.
class Pattern {
 public:
  Pattern(int first_rank, int last_rank, int rank_count, DType dtype) : element_(size_of(dtype)) {
    for (int index = 0; index < levels_of(rank_count); ++index) {
      int sum = 0;
      for (int rank = first_rank; rank <= last_rank; ++rank) sum += value_of(rank, index, rank_count);
      put(elements_.emplace_back().data(), dtype, sum);
    }
  }

  // `count` elements from `index` on.
  void write(std::byte* to, std::int64_t index, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) std::memcpy(place(to, i), at(index + i), element_);
  }
  std::int64_t count_wrong(const std::byte* in, std::int64_t index, std::int64_t count) const {
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      if (std::memcmp(place(in, i), at(index + i), element_) != 0) ++wrong;
    }
    return wrong;
  }

 private:
  template <typename Byte>
  Byte* place(Byte* data, std::int64_t index) const {
    return data + static_cast<std::size_t>(index) * element_;
  }
  const std::byte* at(std::int64_t index) const {
    return elements_[static_cast<std::size_t>(index) % elements_.size()].data();
  }

  const std::size_t element_;
  std::vector<std::array<std::byte, sizeof(std::int64_t)>> elements_;
};

// Elements of the result that are not what they have to be.
std::int64_t wrong_in(BenchOperation operation, const std::byte* result, std::int64_t count, DType dtype,
                      const Communicator& ranks) {
  const int size = ranks.size();
  const std::int64_t slice = count / size;
  const Pattern sum(0, size - 1, size, dtype);
  const auto of_rank = [&](int rank) { return Pattern(rank, rank, size, dtype); };
  switch (operation) {
    case BenchOperation::kAllReduce:
      return sum.count_wrong(result, 0, count);
    case BenchOperation::kReduceScatter:
      return sum.count_wrong(result, ranks.rank() * slice, slice);
    case BenchOperation::kSendReceive:
      return of_rank((ranks.rank() + size - 1) % size).count_wrong(result, 0, count);
    case BenchOperation::kAllGather:
    case BenchOperation::kAllToAll:
      break;
    case BenchOperation::kBroadcast:
    case BenchOperation::kBarrier:
      return of_rank(0).count_wrong(result, 0, count);
  }
  const std::int64_t begin = operation == BenchOperation::kAllToAll ? ranks.rank() * slice : 0;
  std::int64_t wrong = 0;
  for (int rank = 0; rank < size; ++rank) {
    const std::size_t offset = static_cast<std::size_t>(rank * slice) * size_of(dtype);
    wrong += of_rank(rank).count_wrong(result + offset, begin, slice);
  }
  return wrong;
}

bool is_in_place(BenchOperation operation) {
  return operation == BenchOperation::kAllReduce || operation == BenchOperation::kBroadcast;
}

double bus_factor(BenchOperation operation, int rank_count) {
  const double others = static_cast<double>(rank_count - 1) / rank_count;
  switch (operation) {
    case BenchOperation::kAllReduce:
      return 2 * others;
    case BenchOperation::kReduceScatter:
    case BenchOperation::kAllGather:
    case BenchOperation::kAllToAll:
      return others;
    case BenchOperation::kBroadcast:
    case BenchOperation::kSendReceive:
    case BenchOperation::kBarrier:
      break;
  }
  return 1;
}

int rounds_for(std::int64_t bytes) {
  if (bytes < (64 << 10)) return 1000;
  return bytes < (8 << 20) ? 200 : 15;
}

}  // namespace

std::int64_t even_bytes(std::int64_t bytes, int rank_count, DType dtype) {
  const std::int64_t unit = rank_count * static_cast<std::int64_t>(size_of(dtype));
  return std::max<std::int64_t>(bytes / unit, 1) * unit;
}

Work CommBench::start(BenchOperation operation, const Buffer& first, const Buffer& second) {
  const int size = communicator_.size();
  const auto slice_of_buffer = [&](Buffer buffer) {
    buffer.count /= size;
    return buffer;
  };
  switch (operation) {
    case BenchOperation::kAllReduce:
      return communicator_.all_reduce(first, ReduceOp::kSum);
    case BenchOperation::kReduceScatter:
      return communicator_.reduce_scatter(first, slice_of_buffer(second), ReduceOp::kSum);
    case BenchOperation::kAllGather:
      return communicator_.all_gather(slice_of_buffer(first), second);
    case BenchOperation::kBroadcast:
      return communicator_.broadcast(first, 0);
    case BenchOperation::kAllToAll:
      return communicator_.all_to_all(first, second);
    case BenchOperation::kSendReceive: {
      if (size == 1) break;
      const int rank = communicator_.rank();
      Work sending = communicator_.send(first, (rank + 1) % size);
      return Work::all_of({sending, communicator_.receive(second, (rank + size - 1) % size)});
    }
    case BenchOperation::kBarrier:
      break;
  }
  return communicator_.barrier();
}

std::int64_t CommBench::count_wrong(BenchOperation operation, std::int64_t count, const BenchMemory& memory) {
  const std::size_t element = size_of(spec_.dtype);
  const int size = communicator_.size();
  if (operation == BenchOperation::kBarrier || (operation == BenchOperation::kSendReceive && size == 1))
    return 0;
  std::vector<std::byte> image(static_cast<std::size_t>(count) * element);
  Pattern(communicator_.rank(), communicator_.rank(), size, spec_.dtype).write(image.data(), 0, count);
  memory.copy(memory.first(), image.data(), image.size());
  std::memset(image.data(), 0xff, image.size());
  memory.copy(memory.second(), image.data(), image.size());
  start(operation, {memory.first(), count, spec_.dtype, memory.device},
        {memory.second(), count, spec_.dtype, memory.device})
      .wait();
  memory.copy(image.data(), is_in_place(operation) ? memory.first() : memory.second(), image.size());
  std::int64_t wrong = wrong_in(operation, image.data(), count, spec_.dtype, communicator_);
  communicator_.all_reduce({.data = &wrong, .count = 1, .dtype = DType::kInt64}, ReduceOp::kSum).wait();
  return wrong;
}

template <typename Act>
double CommBench::median_seconds(int rounds, Act act) {
  std::vector<double> seconds;
  for (int round = -2; round < rounds; ++round) {
    communicator_.barrier().wait();
    const auto begin = Clock::now();
    act();
    if (round >= 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  const auto middle = seconds.begin() + rounds / 2;
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

CommMeasurement CommBench::measure(BenchOperation operation, std::int64_t bytes, const BenchMemory& memory) {
  const auto count = bytes / static_cast<std::int64_t>(size_of(spec_.dtype));
  CommMeasurement result;
  result.wrong = count_wrong(operation, count, memory);
  const std::vector<std::byte> zeros(static_cast<std::size_t>(bytes));  // sums of them stay as they are
  memory.copy(memory.first(), zeros.data(), zeros.size());
  const Buffer first{memory.first(), count, spec_.dtype, memory.device};
  const Buffer second{memory.second(), count, spec_.dtype, memory.device};
  const int rounds = spec_.iterations.value_or(rounds_for(bytes));
  double seconds = 0;
  if (operation == BenchOperation::kBarrier) {  // in a row, so that no rank has a start
    seconds = median_seconds(std::max(rounds / kBarriersInARow, 3), [&] {
      for (int i = 0; i < kBarriersInARow; ++i) communicator_.barrier().wait();
    });
    seconds /= kBarriersInARow;
    bytes = 0;
  } else {
    seconds = median_seconds(rounds, [&] { start(operation, first, second).wait(); });
  }
  result.microseconds = seconds * 1e6;
  result.algorithm_bandwidth = static_cast<double>(bytes) / seconds / 1e9;
  result.bus_bandwidth = result.algorithm_bandwidth * bus_factor(operation, communicator_.size());
  return result;
}

double CommBench::copy_bandwidth(int copiers, const BenchMemory& memory) {
  const std::size_t bytes = std::min<std::size_t>(memory.half_bytes, 64 << 20);
  const double seconds = median_seconds(7, [&] {
    if (communicator_.rank() < copiers) memory.copy(memory.second(), memory.first(), bytes);
  });
  return static_cast<double>(bytes) / seconds / 1e9;
}

}  // namespace deepscale
