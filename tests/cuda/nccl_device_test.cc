// The NCCL backend on a GPU. NCCL refuses two ranks on one GPU, so the world is one rank wide.
#include <gmock/gmock.h>
#include <torch/torch.h>

#include "comm/base/error.h"
#include "comm/nccl/nccl_communicator.h"
#include "runtime/engine/device.h"
#include "runtime/engine/tensor_collectives.h"
#include "tests/cuda/need_gpu.h"

namespace deepscale {
namespace {

const c10::Device kGpu(c10::kCUDA, 0);

std::shared_ptr<Communicator> connect() {
  choose_device(WorldLayout());
  return make_nccl_communicator(make_single_communicator(), nullptr, {.timeout = std::chrono::seconds(60)});
}

at::Tensor counting(std::int64_t numel, at::ScalarType dtype) {
  return at::arange(numel, at::TensorOptions(at::kFloat).device(kGpu)).remainder(120).to(dtype);
}

class NcclDTypes : public ::testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(DTypes, NcclDTypes,
                         ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf, at::kInt, at::kLong,
                                           at::kByte));

TEST_P(NcclDTypes, EveryOperationOfOneRankCopies) {
  DEEPSCALE_NEED_GPU();
  const auto communicator = connect();
  EXPECT_STREQ(communicator->backend(), "nccl");
  TensorCollectives collectives(communicator);
  for (const std::int64_t numel :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{1025}, std::int64_t{1} << 20}) {
    const at::Tensor values = counting(numel, GetParam());
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kAverage, ReduceOp::kMax, ReduceOp::kMin}) {
      const at::Tensor reduced = values.clone();
      collectives.all_reduce(reduced, op).wait();
      EXPECT_TRUE(at::equal(reduced, values));
      const at::Tensor scattered = at::empty_like(values);
      collectives.reduce_scatter(values, scattered, op).wait();
      EXPECT_TRUE(at::equal(scattered, values));
    }
    const at::Tensor gathered = at::empty_like(values);
    collectives.all_gather(values, gathered).wait();
    EXPECT_TRUE(at::equal(gathered, values));
    const at::Tensor told = values.clone();
    collectives.broadcast(told, 0).wait();
    EXPECT_TRUE(at::equal(told, values));
    const at::Tensor exchanged = at::zeros_like(values);
    const auto buffer_of = [&](const at::Tensor& tensor) {
      return Buffer{tensor.data_ptr(), tensor.numel(), to_dtype(GetParam()), DeviceKind::kCuda,
                    current_stream(kGpu)};
    };
    communicator->all_to_all(buffer_of(values), buffer_of(exchanged)).wait();
    EXPECT_TRUE(at::equal(exchanged, values));
  }
  communicator->barrier().wait();
}

// Matrix products that take the GPU far longer than the host needs to enqueue all of this.
TEST(NcclDevice, OperationsAreOrderedWithTheComputeStreamAndDoNotStopTheHost) {
  DEEPSCALE_NEED_GPU();
  const auto communicator = connect();
  TensorCollectives collectives(communicator);
  at::Tensor matrix = at::eye(4096, at::TensorOptions(at::kFloat).device(kGpu));
  at::Tensor result = at::empty_like(matrix);
  collectives.all_reduce(matrix.clone(), ReduceOp::kSum).wait();  // connects
  at::Tensor product = matrix;
  for (int i = 0; i < 50; ++i) product = at::mm(product, matrix);
  product = product.mul(2);
  const Buffer input{product.data_ptr(), product.numel(), DType::kFloat32, DeviceKind::kCuda,
                     current_stream(kGpu)};
  const Buffer output{result.data_ptr(), result.numel(), DType::kFloat32, DeviceKind::kCuda};
  Work work = communicator->all_gather(input, output);
  EXPECT_FALSE(work.is_done()) << "it ran before its input was there, or the host waited for it";
  work.wait_on(current_stream(kGpu));
  const at::Tensor after = result.mul(1);
  EXPECT_TRUE(at::equal(after, matrix.mul(2)));
  EXPECT_TRUE(work.is_done());
}

TEST(NcclDevice, BuffersOnTheHostGoToTheOtherCommunicator) {
  DEEPSCALE_NEED_GPU();
  TensorCollectives collectives(connect());
  const at::Tensor values = at::arange(10, at::kFloat);
  const at::Tensor copy = at::empty_like(values);
  collectives.all_gather(values, copy).wait();
  EXPECT_TRUE(at::equal(copy, values));
}

TEST(NcclDevice, AbortIsFinal) {
  DEEPSCALE_NEED_GPU();
  const auto communicator = connect();
  TensorCollectives collectives(communicator);
  const at::Tensor values = counting(100, at::kFloat);
  collectives.all_reduce(values, ReduceOp::kSum).wait();
  communicator->abort("a test asked for it");
  try {
    collectives.all_reduce(values, ReduceOp::kSum).wait();
    FAIL() << "an operation after abort()";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kAborted);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("a test asked for it"));
  }
  EXPECT_EQ(values.sum().item<float>(), 4950.0f) << "the GPU goes on";
}

}  // namespace
}  // namespace deepscale
