#include "runtime/engine/host_optimizer.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>

#include "runtime/engine/tensor_collectives.h"

namespace deepscale {
namespace {

constexpr const char* kMaster = "master";
constexpr const char* kFirst = "exp_avg";
constexpr const char* kSecond = "exp_avg_sq";

constexpr std::int64_t kThreadNumel = 64 * 1024;        // elements that a thread updates at a time
constexpr std::int64_t kStagedNumel = 4 * 1024 * 1024;  // elements in a pinned buffer
constexpr std::int64_t kAlignment = 16;                 // of segments in a buffer: a cache line

at::Tensor floats_of(float* values, std::int64_t numel) {
  return at::from_blob(values, {numel}, at::kFloat);
}

}  // namespace

// `gradient` and `parameter` are flat and of `numel` elements; `parameter` has none where the model reads the
// master.
struct HostOptimizer::Run {
  at::Tensor gradient;
  ParameterSlice parameter;
  float* master;
  float* first;
  float* second;
  std::int64_t numel;

  bool writes_parameter() const { return parameter.numel() > 0; }
  bool parameter_is_on_host() const { return !writes_parameter() || parameter.is_on(at::kCPU); }
  bool is_on_host() const { return gradient.is_cpu() && parameter_is_on_host(); }
  Run part(std::int64_t begin, std::int64_t count) const {
    const auto moved = [&](float* values) { return values == nullptr ? nullptr : values + begin; };
    return {.gradient = gradient.narrow(0, begin, count),
            .parameter = writes_parameter() ? parameter.part(begin, count) : ParameterSlice(),
            .master = moved(master),
            .first = moved(first),
            .second = moved(second),
            .numel = count};
  }
  UpdateSpan span() const {
    return {.master = master,
            .gradient = gradient.const_data_ptr(),
            .gradient_dtype = to_dtype(gradient.scalar_type()),
            .first_moment = first,
            .second_moment = second,
            .parameter = writes_parameter() ? parameter.tensor().mutable_data_ptr() : nullptr,
            .parameter_dtype = to_dtype(parameter.dtype()),
            .numel = numel};
  }
};

HostOptimizer::HostOptimizer(const OptimizerConfig& config, const std::vector<Segment>& layout,
                             std::shared_ptr<StateFile> file)
    : config_(config), layout_(layout), file_(std::move(file)) {
  std::int64_t total = 0;
  for (Segment& segment : layout_) {
    segment.gradient.reset();
    numels_.push_back(segment.parameter.numel());
    offsets_.push_back(total);
    total += (numels_.back() + kAlignment - 1) / kAlignment * kAlignment;
  }
  const auto bytes = static_cast<std::size_t>(total) * sizeof(float);
  if (!file_) {
    if (has_first_moment(config)) first_moments_ = HostBuffer(bytes);
    if (has_second_moment(config)) second_moments_ = HostBuffer(bytes);
    return;
  }
  const bool masters_are_there = !layout_.empty() && !layout_.front().master.defined();
  if (masters_are_there) file_quantities_.push_back(kMaster);
  if (has_first_moment(config)) file_quantities_.push_back(kFirst);
  if (has_second_moment(config)) file_quantities_.push_back(kSecond);
  std::int64_t element = 0;
  for (const std::int64_t numel : numels_) {
    if (!masters_are_there) file_->add_segment(numel);
    first_elements_.push_back(element);
    element += StateFile::room_of(numel);
  }
}

void HostOptimizer::step(const std::vector<Segment>& segments, const StepOptions& options) {
  at::NoGradGuard no_grad;
  ++steps_;
  const UpdateRule rule = make_update_rule(config_, {.number = steps_,
                                                     .learning_rate = options.learning_rate,
                                                     .betas = options.betas,
                                                     .gradient_factor = 1.0 / options.gradient_divisor});
  if (file_) {
    update_in_file(segments, rule);
  } else {
    update_in_memory(segments, rule);
  }
}

float* HostOptimizer::in_memory(const std::string& quantity, std::size_t segment) const {
  if (quantity == kMaster) return layout_[segment].master.mutable_data_ptr<float>();
  const HostBuffer& buffer = quantity == kFirst ? first_moments_ : second_moments_;
  if (buffer.bytes() == 0) return nullptr;
  return reinterpret_cast<float*>(buffer.data()) + offsets_[segment];
}

ParameterSlice HostOptimizer::written_parameter(std::size_t segment, std::int64_t begin,
                                                std::int64_t numel) const {
  const Segment& of = layout_[segment];
  return of.has_master_apart() ? of.parameter.part(begin, numel) : ParameterSlice();
}

void HostOptimizer::update_in_memory(const std::vector<Segment>& segments, const UpdateRule& rule) {
  std::vector<Run> runs;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    runs.push_back({.gradient = segments[i].gradient.view({-1}),
                    .parameter = written_parameter(i, 0, numels_[i]),
                    .master = in_memory(kMaster, i),
                    .first = in_memory(kFirst, i),
                    .second = in_memory(kSecond, i),
                    .numel = numels_[i]});
  }
  update_runs(std::move(runs), rule);
}

// The runs of the segments that lie in a chunk.
void HostOptimizer::update_in_file(const std::vector<Segment>& segments, const UpdateRule& rule) {
  std::size_t segment = 0;
  file_->update([&](const StateFile::Chunk& chunk) {
    std::vector<Run> runs;
    const std::int64_t chunk_end = chunk.begin + chunk.numel;
    for (; segment < segments.size(); ++segment) {
      const std::int64_t first = first_elements_[segment];
      const std::int64_t begin = std::max(first, chunk.begin);
      const std::int64_t end = std::min(first + numels_[segment], chunk_end);
      if (begin < end) {
        const auto place = [&](const char* quantity) -> float* {
          if (!is_in_file(quantity)) return nullptr;
          return chunk.values[static_cast<std::size_t>(file_quantity(quantity))] + (begin - chunk.begin);
        };
        Run run{.gradient = segments[segment].gradient.view({-1}).narrow(0, begin - first, end - begin),
                .parameter = written_parameter(segment, begin - first, end - begin),
                .master = place(kMaster),
                .first = place(kFirst),
                .second = place(kSecond),
                .numel = end - begin};
        if (run.master == nullptr) run.master = in_memory(kMaster, segment) + (begin - first);
        runs.push_back(std::move(run));
      }
      if (first + numels_[segment] > chunk_end) break;  // it goes on in the next chunk
    }
    update_runs(std::move(runs), rule);
  });
}

// The begin of a staging buffer for elements like those of `slice`; pinned where they travel to a device.
at::Tensor HostOptimizer::buffer_for(at::Tensor& buffer, const ParameterSlice& slice, std::int64_t numel) {
  if (!buffer.defined() || buffer.scalar_type() != slice.dtype())
    buffer = at::empty({kStagedNumel}, at::TensorOptions(slice.dtype()).pinned_memory(!slice.is_in_file()));
  return buffer.narrow(0, 0, numel);
}

void HostOptimizer::update_runs(std::vector<Run> runs, const UpdateRule& rule) {
  std::vector<UpdateSpan> spans;
  const auto update_spans = [&] {
    at::parallel_for(0, static_cast<std::int64_t>(spans.size()), 1,
                     [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t i = begin; i < end; ++i)
                         update(rule, spans[static_cast<std::size_t>(i)]);
                     });
    spans.clear();
  };
  const auto add_spans = [&](const UpdateSpan& whole) {
    for (std::int64_t begin = 0; begin < whole.numel; begin += kThreadNumel)
      spans.push_back(whole.part(begin, std::min(kThreadNumel, whole.numel - begin)));
  };
  for (const Run& run : runs) {
    if (run.is_on_host()) {
      add_spans(run.span());
      continue;
    }
    for (std::int64_t begin = 0; begin < run.numel; begin += kStagedNumel) {
      const Run target = run.part(begin, std::min(kStagedNumel, run.numel - begin));
      Run staged = target;
      if (!target.gradient.is_cpu()) {
        staged.gradient = buffer_for(staged_gradient_, target.gradient, target.numel);
        staged.gradient.copy_(target.gradient);
      }
      if (!target.parameter_is_on_host())
        staged.parameter = buffer_for(staged_parameter_, target.parameter, target.numel);
      add_spans(staged.span());
      update_spans();
      if (!target.parameter_is_on_host()) target.parameter.write(staged.parameter.tensor());
    }
  }
  update_spans();
}

std::vector<std::string> HostOptimizer::quantities() const {
  std::vector<std::string> quantities = {kMaster};
  if (has_first_moment(config_)) quantities.push_back(kFirst);
  if (has_second_moment(config_)) quantities.push_back(kSecond);
  return quantities;
}

bool HostOptimizer::is_in_file(const std::string& quantity) const {
  return std::find(file_quantities_.begin(), file_quantities_.end(), quantity) != file_quantities_.end();
}

int HostOptimizer::file_quantity(const std::string& quantity) const {
  return static_cast<int>(std::find(file_quantities_.begin(), file_quantities_.end(), quantity) -
                          file_quantities_.begin());
}

at::Tensor HostOptimizer::read(const Range& range) {
  if (!is_in_file(range.quantity))
    return floats_of(in_memory(range.quantity, range.segment) + range.begin, range.numel);
  at::Tensor values = at::empty({range.numel}, at::kFloat);
  file_->read(file_quantity(range.quantity), first_elements_[range.segment] + range.begin, range.numel,
              values.mutable_data_ptr<float>());
  return values;
}

void HostOptimizer::write(const Range& range, const at::Tensor& values) {
  if (!is_in_file(range.quantity)) {
    floats_of(in_memory(range.quantity, range.segment) + range.begin, range.numel).copy_(values);
    return;
  }
  const at::Tensor flat = values.to(at::kCPU, at::kFloat).contiguous();
  file_->write(file_quantity(range.quantity), first_elements_[range.segment] + range.begin, range.numel,
               flat.const_data_ptr<float>());
}

std::int64_t HostOptimizer::state_bytes() const {
  const std::int64_t buffers = file_ ? file_->buffer_bytes() : 0;
  std::int64_t moments = 0;
  for (const std::int64_t numel : numels_) {
    if (!file_) moments += numel * 4 * (has_first_moment(config_) + has_second_moment(config_));
  }
  return masters_bytes(layout_) + moments + buffers;
}

}  // namespace deepscale
