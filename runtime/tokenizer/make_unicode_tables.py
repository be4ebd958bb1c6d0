"""make_unicode_tables.py: writes unicode_categories.cc and unicode_mappings.cc beside itself, from the Unicode database of the running Python."""
import pathlib
import unicodedata

HERE = pathlib.Path(__file__).parent
LAST = 0x10FFFF
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic
HEAD = """// Written by make_unicode_tables.py from Unicode {version}.
#include "runtime/tokenizer/unicode_tables.h"

namespace deepscale {{

// clang-format off
"""
TAIL = """// clang-format on

}  // namespace deepscale
"""


def ranges(holds):
    """Ranges of code points for which `holds` is true."""
    first = None
    for point in range(LAST + 2):
        inside = point <= LAST and holds(point)
        if inside and first is None:
            first = point
        elif not inside and first is not None:
            yield first, point - 1
            first = None


def category(*starts):
    return lambda point: unicodedata.category(chr(point)).startswith(starts)


def table(kind, name, rows):
    cells = ["{" + ",".join(f"0x{value:X}" if value >= 0 else str(value) for value in row) + "}," for row in rows]
    lines, line = [], ""
    for cell in cells:
        if len(line) + len(cell) > 138:
            lines.append(line)
            line = ""
        line += cell
    lines.append(line)
    return f"const {kind} {name}_data[] = {{\n" + "\n".join(lines) + f"\n}};\nconst UnicodeTable<{kind}> {name}{{{name}_data, {len(cells)}}};\n\n"


def lower(point):
    text = chr(point).lower()
    return ord(text) if len(text) == 1 else point


def lower_rows():
    """Runs of code points, one after the other or every second, whose lower case is equally far away."""
    changed = [(point, lower(point) - point) for point in range(LAST + 1) if lower(point) != point]
    rows = []
    for point, distance in changed:
        if rows and rows[-1][3] == distance and point - rows[-1][1] in (1, 2) and rows[-1][2] in (0, point - rows[-1][1]):
            rows[-1] = (rows[-1][0], point, point - rows[-1][1], distance)
        else:
            rows.append((point, point, 0, distance))
    return [(first, last, step or 1, distance) for first, last, step, distance in rows]


def decompositions():
    for point in range(LAST + 1):
        parts = unicodedata.decomposition(chr(point)).split()
        if parts and not parts[0].startswith("<") and point not in HANGUL:
            values = [int(part, 16) for part in parts]
            yield (point, values[0], values[1] if len(values) > 1 else 0)


def write(name, tables):
    (HERE / name).write_text(HEAD.format(version=unicodedata.unidata_version) + "".join(tables).rstrip("\n") + "\n" + TAIL)


write("unicode_categories.cc", [
    table("UnicodeRange", "unicode_letters", ranges(category("L"))),
    table("UnicodeRange", "unicode_numbers", ranges(category("N"))),
    table("UnicodeRange", "unicode_decimal_digits", ranges(category("Nd"))),
    table("UnicodeRange", "unicode_marks", ranges(category("M"))),
    table("UnicodeRange", "unicode_nonspacing_marks", ranges(category("Mn"))),
    table("UnicodeRange", "unicode_punctuation", ranges(category("P"))),
    table("UnicodeRange", "unicode_other", ranges(category("Cc", "Cf", "Co"))),
])
write("unicode_mappings.cc", [
    table("UnicodeLowerCase", "unicode_lower_case", lower_rows()),
    table("UnicodeDecomposition", "unicode_decompositions", decompositions()),
])
