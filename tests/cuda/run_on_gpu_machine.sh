#!/usr/bin/env bash
# Builds the project on a machine with a GPU and no network, and runs what needs the GPU there: the tests with the label cuda, the
# environment report, the table of NCCL with a rank on every GPU, the examples cifar10,
# bert_pretraining and sft on one and two ranks, and zero_inference.
#
#   pack:  tests/cuda/run_on_gpu_machine.sh pack FOLDER     here: what that machine lacks, as FOLDER/third_party.tar.gz (about 20 MB)
#   run:   tests/cuda/run_on_gpu_machine.sh run FOLDER      there: python3 with torch, cmake and ninja, g++, and the CUDA toolkit
#
# The build goes to build-gpu, the log also to $OUT/log where OUT is set. Ends with 0 when everything passed; about 5 minutes on 16 cores.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

readonly BUILD=build-gpu
readonly TARGETS=(deepscale cifar10 bert_pretraining sft zero_inference nccl_device_test nccl_join_test engine_cuda_test device_decoder_cuda_test cuda_rank)
failed=()

say() { printf '== %4ds %s\n' "$SECONDS" "$*"; }

# step NAME COMMAND...: runs it, and remembers when it failed.
step() {
  local name=$1
  shift
  say "$name"
  "$@" || { say "$name FAILED"; failed+=("$name"); }
}

pack() {
  local folder=$1 staging
  staging=$(mktemp -d)
  mkdir -p "$folder" "$staging/include"
  cp -r /usr/include/{boost,fmt,spdlog,nlohmann} /usr/include/cxxopts.hpp "$staging/include"
  cp -r /usr/src/googletest "$staging"
  # Libraries of Boost that nothing here uses, and that are most of it.
  (cd "$staging/include/boost" && rm -rf geometry spirit phoenix fusion/*/*50* math gil compute hana mpl/*/*50* wave graph polygon python msm yap \
    accumulators numeric/{ublas,odeint} units multiprecision histogram log metaparse parameter locale statechart signals2 xpressive proto beast json)
  tar -C "$staging" -czf "$folder/third_party.tar.gz" include googletest
  if [[ -e data/digits/batches.meta.txt ]]; then cp -rL data/digits "$folder"; fi
  if [[ -e data/model/config.json ]]; then cp -rL data/model "$folder"; fi  # a language model for sft
  rm -rf "$staging"
  du -sh "$folder"
}

facts() {
  nvidia-smi -L
  g++ --version | head -1
  nvcc --version | tail -2
  python3 -c 'import torch; print("torch", torch.__version__, torch.__file__, "NCCL", torch.cuda.nccl.version())'
}

unpack() {
  rm -rf "$BUILD/third_party" && mkdir -p "$BUILD/third_party" &&
    python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$1/third_party.tar.gz" "$BUILD/third_party"
}

configure() {
  local torch
  torch=${Torch_DIR:-$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0] + "/share/cmake/Torch")')}
  # Where g++ has no libstdc++.so of its own it would take the static one, and LibTorch brings the shared one: two copies of one library.
  mkdir -p "$BUILD/lib"
  ln -sf "$(ldconfig -p | awk '/libstdc\+\+\.so\.6 .*x86-64/ {print $NF; exit}')" "$BUILD/lib/libstdc++.so"
  cmake -S . -B "$BUILD" -G Ninja "-DCMAKE_EXE_LINKER_FLAGS=-L$PWD/$BUILD/lib" -DCMAKE_BUILD_TYPE=Release -DDEEPSCALE_WITH_CUDA=ON "-DTorch_DIR=$torch" \
    "-DCMAKE_PREFIX_PATH=$PWD/$BUILD/third_party" "-DDEEPSCALE_GOOGLETEST_DIR=$PWD/$BUILD/third_party/googletest"
}

build() { cmake --build "$BUILD" --target "${TARGETS[@]}" -- -k 0; }

# cifar10 RANKS DTYPE STAGE [DEEPSCALE_BACKEND]
cifar10() {
  local data=("--data_dir" "$folder/digits") launch=()
  if (($1 > 1)); then launch=("$BUILD/bin/deepscale" launch --num_gpus "$1" --oversubscribe); fi
  DEEPSCALE_BACKEND=${4:-} timeout -k 5 90 "${launch[@]}" "$BUILD/bin/cifar10" --deepscale --dtype "$2" --stage "$3" --epochs 4 "${data[@]}"
}

# offloaded RANKS STAGE DEVICE [DEVICE]: cifar10 in bf16 with its optimizer's state there, and its parameters on the other one
offloaded() {
  local config=$BUILD/offload.json
  printf '{"train_micro_batch_size_per_gpu": 16, "bf16": {"enabled": true}, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
    "zero_optimization": {"stage": %d, "offload_optimizer": {"device": "%s", "nvme_path": "%s"},
    "offload_param": {"device": "%s", "nvme_path": "%s"}, "stage3_param_persistence_threshold": 1000}}' \
    "$2" "$3" "$PWD/$BUILD" "${4:-none}" "$PWD/$BUILD" >"$config"
  timeout -k 5 90 "$BUILD/bin/deepscale" launch --num_gpus "$1" --oversubscribe "$BUILD/bin/cifar10" --deepscale_config "$config" --epochs 4 \
    --data_dir "$folder/digits"
}

# bert_pretraining RANKS STAGE; a second run goes on from the first one's checkpoint.
bert_pretraining() {
  local steps
  for steps in 100 150; do
    timeout -k 5 90 "$BUILD/bin/deepscale" launch --num_gpus "$1" --oversubscribe "$BUILD/bin/bert_pretraining" --data_path "$BUILD/bert" \
      --tokenizer_path "$BUILD/bert" --checkpoint_dir "$BUILD/bert_checkpoints_$1_$2" --dtype bf16 --stage "$2" --num_iterations $steps --log_every 50 || return 1
  done
}

# sft RANKS STAGE OPTION...: 40 steps
sft() {
  timeout -k 5 120 "$BUILD/bin/deepscale" launch --num_gpus "$1" --oversubscribe "$BUILD/bin/sft" --model_name_or_path "$folder/model" \
    --data_path "$BUILD/instructions.jsonl" --lora_dim 128 --only_optimize_lora --dtype bf16 --zero_stage "$2" --steps_limit 40 --max_seq_len 128 \
    --learning_rate 1e-3 "${@:3}" | grep -vE 'Latency|Model Parameters'
}

# A quarter of the layers of Llama-2-7B, for zero_inference --dummy.
llama_shape() {
  mkdir -p "$BUILD/llama" &&
    printf '{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
      "num_hidden_layers": 8, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096}' >"$BUILD/llama/config.json"
}

# zero_inference OPTION...: the announcement's command
zero_inference() {
  timeout -k 5 120 "$BUILD/bin/zero_inference" --model "$BUILD/llama" --dummy --offload-dir "$BUILD" --batch-size 64 --prompt-len 8 --gen-len 32 --loops 2 \
    --device cuda "$@" | grep -v '^[0-9]*: '
}

# The NCCL that torch loads; nothing where it lies on the system's path, or inside torch.
nccl_library() {
  python3 -c 'import torch; print(next((line.split()[-1] for line in open("/proc/self/maps") if "libnccl" in line), ""))'
}

nccl_table() {
  DEEPSCALE_NCCL_LIBRARY=$(nccl_library) timeout -k 5 60 "$BUILD/bin/deepscale" bench comm --backend nccl --num_gpus "$(nvidia-smi -L | wc -l)" \
    --op all --factor 32
}

run() {
  folder=$1
  say "facts"
  facts
  say "unpack and configure"
  unpack "$folder" && configure || exit 1
  say "build ${TARGETS[*]}"
  build || exit 1
  step "tests" timeout -k 5 300 ctest --test-dir "$BUILD" -L cuda --output-on-failure --no-tests=error
  step "report" "$BUILD/bin/deepscale" report
  step "bench comm between all GPUs" nccl_table
  if [[ -d $folder/digits ]]; then
    step "cifar10, one rank, fp16" cifar10 1 fp16 0
    step "cifar10, one rank, bf16" cifar10 1 bf16 0
    step "cifar10, two ranks, fp16, stage 2" cifar10 2 fp16 2
    step "cifar10, two ranks, bf16, stage 3" cifar10 2 bf16 3
    step "cifar10, one rank, optimizer in host memory, stage 2" offloaded 1 2 cpu
    step "cifar10, two ranks, optimizer in host memory, stage 3" offloaded 2 3 cpu
    step "cifar10, two ranks, optimizer in files, stage 3" offloaded 2 3 nvme
    step "cifar10, one rank, optimizer and parameters in host memory" offloaded 1 3 cpu cpu
    step "cifar10, two ranks, optimizer and parameters in host memory" offloaded 2 3 cpu cpu
    step "cifar10, two ranks, optimizer and parameters in files" offloaded 2 3 nvme nvme
  fi
  step "text and a tokenizer" python3 examples/bert_pretraining/make_data.py "$BUILD/bert"
  step "bert_pretraining, one rank, stage 1" bert_pretraining 1 1
  step "bert_pretraining, two ranks, stage 3" bert_pretraining 2 3
  if [[ -d $folder/model ]]; then
    step "instructions" python3 examples/sft/make_data.py "$BUILD/instructions.jsonl"
    step "sft, one rank, stage 2, optimizer in host memory" sft 1 2 --offload
    step "sft, two ranks, stage 3" sft 2 3
    step "sft, one rank, int8 base" sft 1 0 --quant_bits 8
  fi
  step "a quarter of Llama-2-7B" llama_shape
  step "zero_inference, weights on the GPU" zero_inference --profile
  step "zero_inference, weights in pinned host memory" zero_inference --cpu-offload --pin-memory 1 --profile
  step "zero_inference, weights in mapped files, cache in host memory" zero_inference --cpu-offload --kv-offload
  step "zero_inference, int4" zero_inference --quant-bits 4
  step "zero_inference, from files" zero_inference --disk-offload
  if ((${#failed[@]})); then
    say "FAILED: ${failed[*]}"
    return 1
  fi
  say "everything passed"
}

case ${1:-} in
  pack) pack "${2:?the folder to fill}" ;;
  run) run "${2:?the folder that pack filled}" 2>&1 | tee "${OUT:-/tmp}/log" ;;
  *)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
