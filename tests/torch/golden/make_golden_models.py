"""make_golden_models.py [NAME...]: the folders beside this file, each a tiny random model of transformers with what it answers.

NAME/config.json, model.safetensors   the model, its weights in bfloat16
NAME/expected.safetensors             input_ids, attention_mask, the logits in fp32 without the mask, and with it those of the padded row

Needs torch, transformers and peft (shared with the peers tests); running the tests needs neither."""
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
COMMON = dict(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
LONG = dict(rope_type="longrope", rope_theta=100.0, short_factor=[1.0, 1.5], long_factor=[2.0, 5.0], original_max_position_embeddings=8)
MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **COMMON, intermediate_size=24, num_key_value_heads=2, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "llama_untied": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **COMMON, intermediate_size=24, head_dim=8, attention_bias=True, mlp_bias=True, pad_token_id=0)),
    "mistral": lambda: transformers.MistralForCausalLM(transformers.MistralConfig(
        **COMMON, intermediate_size=24, num_key_value_heads=1, sliding_window=5)),
    "phi3": lambda: transformers.Phi3ForCausalLM(transformers.Phi3Config(
        **COMMON, intermediate_size=24, num_key_value_heads=2, rope_parameters=LONG, original_max_position_embeddings=8,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, resid_pdrop=0.0)),
    "opt": lambda: transformers.OPTForCausalLM(transformers.OPTConfig(**COMMON, ffn_dim=24, word_embed_proj_dim=16)),
    "opt_350m": lambda: transformers.OPTForCausalLM(transformers.OPTConfig(
        **COMMON, ffn_dim=24, word_embed_proj_dim=8, do_layer_norm_before=False)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=64, n_embd=16, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0)),
    "bert": lambda: transformers.BertForMaskedLM(transformers.BertConfig(**COMMON, intermediate_size=24)),
}


def randomize(model):
    """Values larger than an untrained model's, so that a mistake anywhere shows in the logits; all are exact in bfloat16."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if name.endswith("norm.weight") or ".ln_" in name and name.endswith("weight") else 0.0
            parameter.copy_((around + 0.3 * torch.randn_like(parameter)).bfloat16().float())


def inputs():
    input_ids = torch.randint(3, 64, (2, 12))
    mask = torch.ones_like(input_ids)
    mask[1, 9:] = 0  # padding on the right
    return input_ids, mask


def make(name):
    torch.manual_seed(sum(name.encode()))
    model = MODELS[name]().eval()
    randomize(model)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.bfloat16().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model = type(model).from_pretrained(folder, dtype=torch.float32).eval()  # converting back would leave rounded rotary frequencies
    input_ids, mask = inputs()
    with torch.no_grad():
        whole = model(input_ids=input_ids).logits
        padded = model(input_ids=input_ids, attention_mask=mask).logits
    save_file({"input_ids": input_ids, "attention_mask": mask, "logits": whole, "padded_logits": padded[1, :9].contiguous()}, folder / "expected.safetensors")


def make_adapter(name, targets):
    """PEFT's adapter of the model NAME, as the folder NAME_lora."""
    import peft
    torch.manual_seed(11)
    folder = HERE / f"{name}_lora"
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32)
    model = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets, fan_in_fan_out=name == "gpt2"))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    config.update(base_model_name_or_path=name, target_modules=sorted(config["target_modules"]))
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    input_ids, _ = inputs()
    with torch.no_grad():
        save_file({"input_ids": input_ids, "logits": model.eval()(input_ids=input_ids).logits}, folder / "expected.safetensors")


for chosen in sys.argv[1:] or MODELS:
    make(chosen)
make_adapter("llama", ["q_proj", "down_proj"])
make_adapter("gpt2", ["c_attn"])
