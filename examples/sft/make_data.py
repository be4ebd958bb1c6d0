#!/usr/bin/env python3
"""Writes instruction data that every machine with Python has: what the functions of its standard library do.

usage: make_data.py <output.jsonl> [lines]

Each line is {"prompt": "Human: What does os.path.join do in Python?\\n\\nAssistant:", "response": " Join two or more ..."}: the first paragraph of the
docstring. The same Python always gives the same lines, in the same shuffled order.
"""
import importlib
import inspect
import json
import random
import sys
import warnings

MODULES = ("argparse ast asyncio base64 bisect builtins calendar cmath codecs collections concurrent.futures configparser contextlib copy csv ctypes datetime "
           "decimal difflib dis email.message fileinput fnmatch fractions ftplib functools gettext glob gzip hashlib heapq html http.client http.server imaplib "
           "inspect io ipaddress itertools json locale logging logging.handlers math mimetypes multiprocessing numbers operator os os.path pathlib pickle "
           "platform plistlib pprint queue random re sched selectors shelve shlex shutil signal smtplib socket socketserver sqlite3 ssl statistics string "
           "struct subprocess symtable sysconfig tarfile tempfile textwrap threading time timeit tokenize traceback types typing unittest "
           "unittest.mock urllib.parse urllib.request uuid warnings wave weakref xml.dom.minidom xml.etree.ElementTree xmlrpc.client zipfile zlib").split()


def functions(prefix, owner):
    """Yields (full name, function) of what is public in a module or class, classes of a module included."""
    for name in sorted(vars(owner)):
        value = getattr(owner, name, None)
        if name.startswith("_"):
            continue
        if inspect.isclass(value) and inspect.ismodule(owner):
            yield f"{prefix}.{name}", value
            yield from functions(f"{prefix}.{name}", value)
        elif inspect.isroutine(value):
            yield f"{prefix}.{name}", value


def samples():
    seen = set()
    for module_name in MODULES:
        for name, function in functions(module_name, importlib.import_module(module_name)):
            text = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
            if 20 <= len(text) <= 400 and text not in seen:
                seen.add(text)
                yield {"prompt": f"Human: What does {name.removeprefix('builtins.')} do in Python?\n\nAssistant:", "response": " " + text}


def main(arguments):
    if not 1 <= len(arguments) <= 2:
        sys.exit("usage: make_data.py <output.jsonl> [lines]")
    warnings.simplefilter("ignore")
    chosen = list(samples())
    random.Random(0).shuffle(chosen)
    if len(arguments) == 2:
        chosen = chosen[:int(arguments[1])]
    with open(arguments[0], "w", encoding="utf-8") as file:
        file.writelines(json.dumps(sample) + "\n" for sample in chosen)
    print(f"{len(chosen)} lines in {arguments[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
