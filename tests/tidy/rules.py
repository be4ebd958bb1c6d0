"""The rules of the house that a machine can check. Each rule is a function of a Source tree that yields findings, one sentence each."""
import os
import re

# Folder -> folders that its files may include besides their own. The longest folder that matches a file decides. Tests may include anything.
LAYERS = {
    "comm/base": [],
    "comm/store": ["comm/base"],
    "comm": [],
    "agents": ["comm"],
    "agents/process": ["comm/base"],
    "agents/link": ["comm/base", "comm/store"],
    "launcher": ["comm", "agents"],
    "launcher/job": ["comm/base"],
    "launcher/report": ["comm", "agents", "launcher/job"],
    "runtime/config": ["comm/base"],
    "runtime/schedule": ["comm/base", "runtime/config"],
    "runtime/zero": ["comm/base", "runtime/config"],
    "runtime/offload": ["comm/base", "runtime/config", "runtime/zero"],
    "runtime/checkpoint": ["comm/base"],
    "runtime/pretrained": ["comm/base", "runtime/checkpoint"],
    "runtime/tokenizer": ["comm/base", "runtime/pretrained"],
    "runtime/inference": ["comm/base", "runtime/checkpoint", "runtime/pretrained"],
    "runtime/engine": ["comm", "agents/link", "runtime/checkpoint", "runtime/config", "runtime/monitor", "runtime/schedule", "runtime/zero",
                       "runtime/offload"],
    "runtime/monitor": ["comm", "runtime/checkpoint", "runtime/config"],
    "runtime/tools": ["comm/base", "runtime/checkpoint", "runtime/zero"],
    "runtime": ["comm", "agents/link"],
    "examples": ["comm", "agents/link", "runtime"],
    "tests": ["comm", "agents", "launcher", "runtime", "examples"],
}
FLOORS = ("comm", "agents", "launcher", "runtime", "examples", "tests")
TORCH_FOLDERS = ("runtime/engine", "runtime/models", "runtime/device_inference", "examples", "tests/cuda", "tests/torch", "tests/bench", "tests/peers")
TORCH_FREE_FOLDERS = ("examples/hello_ranks", "examples/zero_inference")
TORCH_HEADER = re.compile(r"(torch|ATen|c10|caffe2)/")
CXXOPTS_FOLDERS = ("launcher/cli", "examples", "tests/bench")

MOST_LINES = 800
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|TBD|WIP)\b")
PLATFORM_MACRO = re.compile(r"^\s*#\s*(?:el)?if.*\b(_WIN32|_WIN64|WIN32|__linux__|__unix__|__APPLE__|_MSC_VER|__MINGW32__)\b")
LINUX_HEADER = re.compile(r"(unistd|poll|sched|dlfcn|pthread|netdb|sys/\w+|netinet/\w+|arpa/\w+|linux/\w+)\.h$")
WINDOWS_HEADER = re.compile(r"(windows|winsock2?|ws2tcpip|shellapi|processthreadsapi)\.h$", re.I)
# libstdc++ 12 loses notifications of these where there is no futex (tests/event.h).
WAITING_ON_ATOMIC = re.compile(r"\.wait\((true|false|nullptr|\d+)\b|\bstd::(latch|barrier|\w+_semaphore)\b")
WINDOWS_MACRO = re.compile(r"\b(ERROR|DELETE|IN|OUT|OPTIONAL|IGNORE|STRICT|interface|near|far|small|environ|GetMessage|SendMessage|GetObject)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
SKIPPED_FOLDERS = re.compile(r"^(\.git|build|build-.*|data|__pycache__)$")
TEXT_FILE = re.compile(r"(\.(h|cc|cmake|py|sh|md|txt|json|yml|bat)|/(run|build\.sh))$")


class Tree:
    """The files of a source tree by their path from its root, with their text."""

    def __init__(self, root):
        self.root = root
        self.files = {}
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not SKIPPED_FOLDERS.match(name))
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), root)
                if TEXT_FILE.search("/" + path):
                    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
                        self.files[path] = file.read()

    def matching(self, *endings):
        return {path: text for path, text in self.files.items() if path.endswith(endings)}

    def headers(self):
        return self.matching(".h")

    def code(self):
        return self.matching(".h", ".cc")


def includes(text):
    """Yields (line number, whether in angle brackets, path) of each #include."""
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start(2)) + 1, match[1] == "<", match[2]


def depends_on_torch(tree, path, seen=None):
    """Whether a file includes LibTorch, itself or through our headers."""
    seen = set() if seen is None else seen
    seen.add(path)
    for _, angled, header in includes(tree.files[path]):
        if TORCH_HEADER.match(header):
            return True
        if not angled and header in tree.files and header not in seen and depends_on_torch(tree, header, seen):
            return True
    return False


def is_in(path, folders):
    return any(path.startswith(folder + "/") for folder in folders)


def layer_of(path):
    return max((folder for folder in LAYERS if is_in(path, [folder])), key=len, default=None)


def layers(tree):
    """A floor includes only itself and the floors below it."""
    for path, text in tree.code().items():
        layer = layer_of(path)
        for line, angled, header in includes(text):
            if angled or header.split("/")[0] not in FLOORS:
                if not angled:
                    yield f"{path}:{line}: \"{header}\" is not a path from the root of the repository"
            elif layer is None or not is_in(header, [layer] + LAYERS[layer]):
                yield f"{path}:{line}: {layer or os.path.dirname(path)} may not include {header}"


def is_of_platform(path):
    return os.path.splitext(path)[0].endswith(("_linux", "_windows"))


def third_party(tree):
    """LibTorch stays in its folders, cxxopts in the command lines, and heavy headers out of those that others include."""
    for path, text in tree.code().items():
        torch_allowed = is_in(path, TORCH_FOLDERS) and not is_in(path, TORCH_FREE_FOLDERS)
        shared_header = path.endswith(".h") and not is_of_platform(path) and not is_in(path, ["tests"])
        for line, _, header in includes(text):
            if TORCH_HEADER.match(header) and not torch_allowed:
                yield f"{path}:{line}: {header}: LibTorch belongs to {', '.join(TORCH_FOLDERS)} only"
            if re.match(r"(boost/|cxxopts|spdlog/)", header) and shared_header:
                yield f"{path}:{line}: {header} in a header; include it in the .cc file and declare what the header needs"
            if header.startswith("cxxopts") and not is_in(path, CXXOPTS_FOLDERS):
                yield f"{path}:{line}: {header}: only {', '.join(CXXOPTS_FOLDERS)} read a command line"


def platforms(tree):
    """The operating system shows only in files named *_linux and *_windows, windows.h in no header at all, and nothing waits on an atomic."""
    for path, text in tree.code().items():
        of_platform = is_of_platform(path)
        for line, _, header in includes(text):
            if WINDOWS_HEADER.match(header) and path.endswith(".h"):
                yield f"{path}:{line}: <{header}> in a header: its macros would reach everyone"
            elif (WINDOWS_HEADER.match(header) or LINUX_HEADER.match(header)) and not of_platform and not is_in(path, ["tests"]):
                yield f"{path}:{line}: <{header}> belongs in a *_linux or *_windows file"
            elif is_of_platform(header) and not of_platform:
                yield f"{path}:{line}: {header} is for one system, and this file for all"
        for line, content in enumerate(text.splitlines(), 1):
            if PLATFORM_MACRO.match(content) and not of_platform:
                yield f"{path}:{line}: {content.strip()}: make a pair of *_linux.cc and *_windows.cc files instead"
            if WAITING_ON_ATOMIC.search(content) and "_linux" not in path:
                yield f"{path}:{line}: {content.strip()}: may sleep for good on Windows; take a condition variable"
            if path.endswith(".h") and re.match(r"\s*#\s*if.*\bUSE_CUDA\b", content):
                yield f"{path}:{line}: USE_CUDA in a header"


def windows_names(tree):
    """No name in a header is a macro of windows.h."""
    for path, text in tree.headers().items():
        bare = COMMENT_OR_STRING.sub(lambda match: "\n" * match[0].count("\n"), text)
        for line, content in enumerate(bare.splitlines(), 1):
            for match in WINDOWS_MACRO.finditer(content):
                yield f"{path}:{line}: {match[0]} is a macro of windows.h"


def sizes(tree):
    """No source file is longer than MOST_LINES."""
    for path, text in tree.matching(".h", ".cc", ".py", ".sh").items():
        lines = text.count("\n")
        if lines > MOST_LINES:
            yield f"{path}: {lines} lines, {MOST_LINES} is the end: look for the second thing in it"


def words(tree):
    """Nothing is left for later."""
    for path, text in tree.files.items():
        if not is_in(path, ["tests/tidy"]):
            for line, content in enumerate(text.splitlines(), 1):
                match = UNFINISHED.search(content)
                if match:
                    yield f"{path}:{line}: {match[0]}: finish it, or open an issue"


def guards(tree):
    """A header may be included twice: its first directive is #pragma once."""
    for path, text in tree.headers().items():
        first = re.search(r"^\s*#.*", text, re.M)
        if not first or first[0].split() != ["#pragma", "once"]:
            yield f"{path}: the first directive is not #pragma once"


def own_header(tree):
    """A .cc file includes its own header first, which proves that the header needs no other before it."""
    for path, text in tree.matching(".cc").items():
        own = path[:-len(".cc")] + ".h"
        first = next((header for _, _, header in includes(text)), None)
        if own in tree.files and first != own:
            yield f"{path}: the first include is {first} instead of {own}"


def build_lists(tree, folder):
    """Yields the text of the CMake files of a folder, of the one above it, and so on up to the root."""
    while True:
        for path, text in tree.matching("CMakeLists.txt", ".cmake").items():
            if os.path.dirname(path) == folder:
                yield text
        if not folder:
            return
        folder = os.path.dirname(folder)


def listed(tree):
    """Every .cc file belongs to a target: a CMake file beside it or above it names it, a platform file also without its ending."""
    for path in tree.matching(".cc"):
        folder, name = os.path.split(path)
        names = re.escape(name) + "|" + re.escape(re.sub(r"_(linux|windows)\.cc$", "", name))
        if not any(re.search(rf"(?<![\w.])({names})(?![\w.])", text) for text in build_lists(tree, folder)):
            yield f"{path}: no CMakeLists.txt names it, so nothing builds it"


RULES = {rule.__name__: rule for rule in (layers, third_party, platforms, windows_names, sizes, words, guards, own_header, listed)}
