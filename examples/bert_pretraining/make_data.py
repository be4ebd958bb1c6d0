#!/usr/bin/env python3
"""Writes text and a tokenizer that every machine with Python can make: the documentation inside its standard library.

usage: make_data.py <output folder> [tokens of the vocabulary, by default 8192]

text.txt has one sentence or heading a line. tokenizer.json is a WordPiece tokenizer as BERT's: all characters, and the words and endings that are most frequent in
the text. Needs nothing but Python.
"""
import ast
import collections
import json
import pathlib
import re
import sys

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LONGEST_ENDING = 6


def documentation(path):
    """The docstrings of a source file, paragraph by paragraph."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                if not paragraph.lstrip().startswith(">>>"):
                    yield " ".join(paragraph.split())


def read_text():
    sources = pathlib.Path(ast.__file__).parent
    paths = sorted(path for path in sources.rglob("*.py") if not {"test", "tests", "site-packages", "idlelib", "lib2to3"} & set(path.relative_to(sources).parts))
    lines = (line for path in paths for line in documentation(path))
    return list(dict.fromkeys(line for line in lines if len(line) > 20 and line.isascii()))


def make_vocabulary(lines, size):
    words = collections.Counter(word for line in lines for word in re.findall(r"[a-z0-9]+|[^\sa-z0-9]", line.lower()))
    characters = sorted({character for word in words for character in word})
    pieces = collections.Counter()
    for word, count in words.items():
        pieces[word] += count
        for length in range(2, min(LONGEST_ENDING, len(word) - 1) + 1):
            pieces["##" + word[-length:]] += count // 2  # a whole word says more than its ending
    ordered = SPECIAL + characters + ["##" + character for character in characters] + [piece for piece, _ in pieces.most_common()]
    return {piece: number for number, piece in enumerate(list(dict.fromkeys(ordered))[:size])}


def make_tokenizer(vocabulary):
    def template(*names):
        return [{"Sequence": {"id": name, "type_id": 0}} if name == "A" else {"SpecialToken": {"id": name, "type_id": 0}} for name in names]

    return {
        "version": "1.0",
        "added_tokens": [{"id": vocabulary[token], "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                         for token in SPECIAL],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": template("[CLS]", "A", "[SEP]"), "pair": template("[CLS]", "A", "[SEP]"),
                           "special_tokens": {token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary},
    }


def main(arguments):
    if not 1 <= len(arguments) <= 2:
        sys.exit("usage: make_data.py <output folder> [tokens of the vocabulary]")
    folder = pathlib.Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    lines = read_text()
    vocabulary = make_vocabulary(lines, int(arguments[1]) if len(arguments) == 2 else 8192)
    (folder / "text.txt").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(make_tokenizer(vocabulary)), encoding="utf-8")
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"} | special), encoding="utf-8")
    print(f"{len(lines)} lines and {len(vocabulary)} tokens in {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
