// `deepscale bench comm` on GPUs, over a fake of the driver and NCCL (tests/comm/fake_gpu.h) whose ranks are
// threads.
#include <gtest/gtest.h>

#include <thread>

#include "comm/nccl/nccl_communicator.h"
#include "launcher/bench/comm_measurement.h"
#include "tests/comm/memory_store.h"

namespace deepscale::testing {
namespace {

void measure_as_rank(int rank, const std::shared_ptr<Store>& store) {
  const auto ranks = make_nccl_communicator(
      make_tcp_communicator(rank, 2, store, {}), store,
      {.device = rank, .nccl_library = DEEPSCALE_FAKE_GPU, .driver_library = DEEPSCALE_FAKE_GPU});
  CommBenchSpec spec;
  spec.iterations = 2;
  CommBench bench(*ranks, spec);
  const BenchMemory memory = device_memory(std::make_shared<cuda::Device>(DEEPSCALE_FAKE_GPU, rank), 4096);
  EXPECT_EQ(memory.device, DeviceKind::kCuda);
  EXPECT_GT(bench.copy_bandwidth(2, memory), 0);
  for (const BenchOperation operation :
       {BenchOperation::kAllReduce, BenchOperation::kReduceScatter, BenchOperation::kAllGather,
        BenchOperation::kBroadcast, BenchOperation::kAllToAll, BenchOperation::kSendReceive}) {
    const CommMeasurement measured = bench.measure(operation, 4096, memory);
    EXPECT_EQ(measured.wrong, 0) << bench_operation_name(operation);
    EXPECT_GT(measured.microseconds, 0);
  }
  ranks->barrier().wait();
}

TEST(CommBench, MeasuresAndChecksInMemoryOfTheGpu) {
  const auto store = std::make_shared<MemoryStore>();
  std::thread other(measure_as_rank, 1, store);
  measure_as_rank(0, store);
  other.join();
}

}  // namespace
}  // namespace deepscale::testing
