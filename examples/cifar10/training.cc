#include "examples/cifar10/training.h"

#include <fmt/core.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>

#include "comm/base/clock.h"
#include "examples/common/distributed_sampler.h"

namespace cifar10 {

namespace {

constexpr std::int64_t kTestBatchSize = 256;

// The mean loss of this rank and the speed of all ranks, since the last line of progress.
class Progress {
 public:
  explicit Progress(const deepscale::Engine& engine) : engine_(engine) {}

  void add(const torch::Tensor& loss, std::int64_t images) {
    loss_sum_ += loss.detach();
    images_ += images * engine_.world_size();
    ++steps_;
  }

  void print(int epoch, std::size_t step) {
    const double loss = loss_sum_.item<double>() / static_cast<double>(steps_);
    const std::chrono::duration<double> elapsed = deepscale::Clock::now() - start_;
    if (engine_.rank() == 0) {
      const bool scaled = engine_.dtype() == torch::kHalf;
      fmt::print("[{}, {:5}] loss: {:.3f}  images/s: {:.0f}{}\n", epoch + 1, step, loss,
                 static_cast<double>(images_) / elapsed.count(),
                 scaled ? fmt::format("  loss scale: {}", engine_.loss_scale()) : "");
      std::fflush(stdout);  // else a pipe keeps it until the end
    }
    loss_sum_.zero_();
    steps_ = images_ = 0;
    start_ = deepscale::Clock::now();
  }

 private:
  const deepscale::Engine& engine_;
  // On its device, so that no step waits for it.
  torch::Tensor loss_sum_ = torch::zeros({}, engine_.device());
  std::int64_t steps_ = 0;
  std::int64_t images_ = 0;
  deepscale::Clock::time_point start_ = deepscale::Clock::now();
};

torch::Tensor train_step(deepscale::Engine& engine, const LabelledImages& data, const torch::Tensor& batch) {
  const torch::Tensor logits = engine.forward(data.normalized_images(batch));
  const torch::Tensor labels = data.labels.index_select(0, batch).to(engine.device());
  const torch::Tensor loss = torch::nn::functional::cross_entropy(logits.to(torch::kFloat), labels);
  engine.backward(loss);
  engine.step();
  return loss;
}

void count_by_class(const torch::Tensor& labels, ClassCounts& counts) {
  const torch::Tensor found = torch::bincount(labels, {}, kClasses);
  for (int label = 0; label < kClasses; ++label) counts[label] += found[label].item<std::int64_t>();
}

void sum_over_ranks(deepscale::Engine& engine, ClassCounts& counts) {
  const deepscale::Buffer buffer{.data = counts.data(), .count = kClasses, .dtype = deepscale::DType::kInt64};
  engine.communicator().all_reduce(buffer, deepscale::ReduceOp::kSum).wait();
}

std::int64_t sum(const ClassCounts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

}  // namespace

LabelledImages::LabelledImages(Records& records) {
  const auto count = static_cast<std::int64_t>(records.size()) / kRecordBytes;
  const torch::Tensor rows = torch::from_blob(records.data(), {count, kRecordBytes}, torch::kUInt8);
  images = rows.narrow(1, 1, kRecordBytes - 1).view({count, kChannels, kImageSize, kImageSize});
  labels = rows.select(1, 0).to(torch::kLong);
}

torch::Tensor LabelledImages::normalized_images(const torch::Tensor& indices) const {
  return images.index_select(0, indices).to(torch::kFloat).div(127.5).sub(1.0);
}

void train(deepscale::Engine& engine, const LabelledImages& data, const TrainingOptions& options) {
  const examples::DistributedSampler sampler(data.count(), engine.rank(), engine.world_size(), options.seed);
  const std::int64_t batch_size = engine.config().micro_batch_size;
  std::size_t steps_left = static_cast<std::size_t>(options.steps_limit);
  engine.module().train();
  for (int epoch = 0; epoch < options.epochs; ++epoch) {
    std::vector<torch::Tensor> batches = torch::tensor(sampler.indices(epoch)).split(batch_size);
    if (options.steps_limit > 0) {
      batches.resize(std::min(batches.size(), steps_left));
      steps_left -= batches.size();
    }
    Progress progress(engine);
    for (std::size_t step = 1; step <= batches.size(); ++step) {
      const torch::Tensor& batch = batches[step - 1];
      progress.add(train_step(engine, data, batch), batch.size(0));
      if (step % options.log_interval == 0 || step == batches.size()) progress.print(epoch, step);
    }
  }
}

Accuracy test(deepscale::Engine& engine, const LabelledImages& data) {
  torch::NoGradGuard no_grad;
  engine.module().eval();
  Accuracy accuracy;
  // Rank r takes image r and every world_size-th after it; there may be none.
  const torch::Tensor share = torch::arange(data.count()).slice(0, engine.rank(), {}, engine.world_size());
  for (std::int64_t first = 0; first < share.size(0); first += kTestBatchSize) {
    const torch::Tensor batch = share.slice(0, first, first + kTestBatchSize);
    const torch::Tensor predicted = engine.forward(data.normalized_images(batch)).argmax(1).to(torch::kCPU);
    const torch::Tensor labels = data.labels.index_select(0, batch);
    count_by_class(labels, accuracy.total);
    count_by_class(labels.masked_select(predicted == labels), accuracy.correct);
  }
  sum_over_ranks(engine, accuracy.total);
  sum_over_ranks(engine, accuracy.correct);
  return accuracy;
}

void print_accuracy(const Accuracy& accuracy, const std::vector<std::string>& class_names) {
  const std::int64_t images = sum(accuracy.total);
  fmt::print("Accuracy of the network on the {} test images: {} %\n", images,
             100 * sum(accuracy.correct) / images);
  for (std::size_t label = 0; label < class_names.size(); ++label) {
    if (accuracy.total[label] == 0) {
      fmt::print("Accuracy of {:>5} : no test images\n", class_names[label]);
    } else {
      fmt::print("Accuracy of {:>5} : {:2} %\n", class_names[label],
                 100 * accuracy.correct[label] / accuracy.total[label]);
    }
  }
  std::fflush(stdout);
}

}  // namespace cifar10
