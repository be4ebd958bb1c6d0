// An Engine on a GPU learns what an Engine on the CPU does, up to rounding: alone, and with two ranks that
// share the GPU and exchange through host memory.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <torch/torch.h>

#include <sstream>

#include "tests/cuda/need_gpu.h"
#include "tests/cuda/patchwork_training.h"
#include "tests/run_program.h"
#include "tests/temporary_folder.h"

namespace deepscale::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kSteps = 30;

std::vector<double> train_on(c10::Device device, const Config& config) {
  InitializeOptions options;
  options.logger = Logger();
  options.device = device;
  options.communicator = make_single_communicator();
  return train_patchwork(make_patchwork(), config, std::move(options), kSteps);
}

const std::vector<double>& losses_on_the_cpu() {
  static const std::vector<double> losses =
      train_on(c10::Device(c10::kCPU), patchwork_config(0, DType::kFloat32));
  return losses;
}

void expect_near(const std::vector<double>& actual, double tolerance) {
  const std::vector<double>& expected = losses_on_the_cpu();
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t step = 0; step < expected.size(); ++step)
    EXPECT_NEAR(actual[step], expected[step], tolerance * expected[step]) << "step " << step;
  EXPECT_LT(actual.back(), actual.front()) << "there was nothing to learn";
}

double tolerance_of(DType dtype) {
  if (dtype == DType::kFloat32) return 1e-3;
  return dtype == DType::kFloat16 ? 1e-2 : 3e-2;
}

class CudaDTypes : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(DTypes, CudaDTypes,
                         ::testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16),
                         [](const auto& info) { return std::string(dtype_name(info.param)); });

TEST_P(CudaDTypes, OneRankLearnsWhatTheCpuDoes) {
  DEEPSCALE_NEED_GPU();
  expect_near(train_on(c10::Device(c10::kCUDA, 0), patchwork_config(0, GetParam())),
              tolerance_of(GetParam()));
}

// Parameters in pinned host memory, in pageable host memory, in a file; the optimizer's state beside them.
TEST_P(CudaDTypes, OffloadedParametersLearnWhatTheCpuDoes) {
  DEEPSCALE_NEED_GPU();
  const TemporaryFolder folder;
  for (const bool is_pinned : {true, false}) {
    for (const OffloadDevice device : {OffloadDevice::kCpu, OffloadDevice::kNvme}) {
      SCOPED_TRACE(fmt::format("device {}, pinned {}", static_cast<int>(device), is_pinned));
      Config config = patchwork_config(3, GetParam());
      config.zero.offload_param = {
          .device = device, .nvme_path = folder.path().string(), .pin_memory = is_pinned};
      config.zero.offload_optimizer = config.zero.offload_param;
      expect_near(train_on(c10::Device(c10::kCUDA, 0), config), tolerance_of(GetParam()));
    }
  }
}

// Lines are "patchwork_loss 2.94" behind what the launcher puts before each.
std::vector<double> losses_in(const std::string& output) {
  std::vector<double> losses;
  const std::string key = "patchwork_loss ";
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t found = line.find(key);
    if (found != std::string::npos) losses.push_back(std::stod(line.substr(found + key.size())));
  }
  return losses;
}

class CudaStages : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Stages, CudaStages, ::testing::Values(0, 1, 2, 3));

TEST_P(CudaStages, TwoRanksOnOneGpuLearnWhatTheCpuDoes) {
  DEEPSCALE_NEED_GPU();
  const DType dtype = GetParam() == 2 ? DType::kBFloat16 : DType::kFloat32;
  const Outcome outcome = run_program(
      fmt::format(DEEPSCALE_PROGRAM " launch --num_gpus 2 --oversubscribe " CUDA_RANK_PROGRAM " {} {} {}",
                  GetParam(), dtype_name(dtype), kSteps),
      100);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  expect_near(losses_in(outcome.output), tolerance_of(dtype));
  if (c10::cuda::device_count() == 1) {
    EXPECT_THAT(outcome.output,
                HasSubstr("CUDA buffers go through host memory, not NCCL, since ranks 0 and 1 "
                          "share a GPU"));
  }
}

}  // namespace
}  // namespace deepscale::testing
