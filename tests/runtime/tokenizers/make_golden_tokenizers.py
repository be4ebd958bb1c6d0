"""make_golden_tokenizers.py: the folders beside this file, each a small tokenizer of a published kind, trained on texts.json, and what it makes of them.

NAME/tokenizer.json   the tokenizer
NAME/expected.json    a list of {text, tokens, plain_tokens, decoded}, as the tokenizers library computes them

Needs the tokenizers package (shared with the peers tests); running the tests does not."""
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
TEXTS = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def template(tokenizer, before, after):
    pieces = " ".join([*before, "$A", *after])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=pieces, special_tokens=[(name, tokenizer.token_to_id(name)) for name in {*before, *after}])


def byte_level(special, size=380, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    return tokenizer, trainer


def gpt2():
    tokenizer, trainer = byte_level(["<|endoftext|>"])
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def opt():
    tokenizer, trainer = byte_level(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken("</s>", normalized=True, special=True), AddedToken("<mask>", lstrip=True, special=True)])
    template(tokenizer, ["</s>"], [])
    return tokenizer


def smollm():
    tokenizer, trainer = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def llama3():
    tokenizer, trainer = byte_level(["<|begin_of_text|>"], ignore_merges=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens([AddedToken("word", single_word=True), AddedToken("  right", rstrip=True)])
    template(tokenizer, ["<|begin_of_text|>"], [])
    return tokenizer


def llama2():
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", behavior="merged_with_next")  # for training alone
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, limit_alphabet=60, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    text = json.loads(tokenizer.to_str())
    text["added_tokens"] = text["added_tokens"][:3]
    text["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(text))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    template(tokenizer, ["<s>"], ["</s>"])
    return tokenizer


def metaspace():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>"], limit_alphabet=40, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def bert(**options):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer(**options)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=420, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], limit_alphabet=250, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    template(tokenizer, ["[CLS]"], ["[SEP]"])
    return tokenizer


def write(name, tokenizer):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    expected = []
    for text in TEXTS:
        tokens = tokenizer.encode(text).ids
        expected.append({"text": text, "tokens": tokens, "plain_tokens": tokenizer.encode(text, add_special_tokens=False).ids,
                         "decoded": tokenizer.decode(tokens)})
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=True, separators=(",", ":")) + "\n")


for name, tokenizer in {"gpt2": gpt2(), "opt": opt(), "smollm": smollm(), "llama3": llama3(), "llama2": llama2(), "metaspace": metaspace(),
                        "bert_uncased": bert(), "bert_cased": bert(lowercase=False, handle_chinese_chars=False)}.items():
    write(name, tokenizer)
