"""Tidy the PDF that Chromium prints: smaller, with whole titles, the same bytes on every day.

Chromium writes each of some 100,000 marks for screen readers as an object of its own, unpacked;
PDF 1.5 lets them share packed streams, which makes the file a third. It repeats in the outline
what stands first on a page and swallows the spaces at line ends; the titles are known, and put
back. The dates of printing are left out.
"""

import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["outline", "tidy"]

GROUP = 200  # objects in one packed stream
HEADER = b"%PDF-1.5\n%\xd3\xeb\xe9\xe1\n"
DATES = re.compile(rb"/(CreationDate|ModDate) ?\(D:[^)]*\)\s*")
TITLE = re.compile(rb"/Title\s*(\((?:\\.|[^\\)])*\)|<[0-9A-Fa-f]*>)", re.DOTALL)


class Document(NamedTuple):
    """The objects of a PDF by number, and what its trailer says."""

    objects: dict[int, bytes]
    trailer: bytes


def tidy(pdf: bytes, titles: list[str]) -> bytes:
    """Return a PDF with its outline named by `titles`, packed, without dates.

    Parameters
    ----------
    pdf : bytes
        As Chromium writes it: one table of all objects, none of them packed.
    titles : list of str
        All headings of the document, in their order.

    Raises
    ------
    ValueError
        When the outline has not as many entries as there are titles.
    """
    document = read(pdf)
    entries = list(outline(document))
    if len(entries) != len(titles):
        raise ValueError(f"the outline has {len(entries)} entries, the book {len(titles)} headings")
    for number, title in zip(entries, titles, strict=True):
        named = TITLE.sub(b"/Title " + text(title), document.objects[number])
        document.objects[number] = named
    return write(document)


def read(pdf: bytes) -> Document:
    """Return the objects that the table at the end of a PDF names."""
    start = int(pdf[pdf.rindex(b"startxref") + 9 :].split()[0])
    table = pdf[start : pdf.index(b"trailer", start)]
    places = {
        number: int(line[:10])
        for number, line in enumerate(re.findall(rb"\d{10} \d{5} [nf]", table))
        if line.endswith(b"n")
    }
    ends = dict(zip(sorted(places.values()), [*sorted(places.values())[1:], start], strict=True))
    objects = {number: body(pdf[at : ends[at]]) for number, at in places.items()}
    return Document(objects, pdf[pdf.index(b"trailer", start) : pdf.rindex(b"startxref")])


def body(text: bytes) -> bytes:
    """Return what stands between ``obj`` and ``endobj``."""
    return text[text.index(b"obj") + 3 : text.rindex(b"endobj")].strip(b"\r\n")


def reference(body: bytes, key: bytes) -> int | None:
    """Return the number of the object that a dictionary names under `key`."""
    found = re.search(rb"/" + key + rb"\s+(\d+)\s+\d+\s+R", body)
    return int(found[1]) if found else None


def outline(document: Document) -> Iterator[int]:
    """Yield the numbers of the entries of the outline, in the order in which they are shown."""
    root = reference(document.trailer, b"Root")
    top = reference(document.objects[root], b"Outlines") if root is not None else None
    waiting = [top] if top is not None else []
    while waiting:
        number = waiting.pop()
        entry = document.objects[number]
        if number != top:
            yield number
        after = (reference(entry, b"Next"), reference(entry, b"First"))
        waiting += [each for each in after if each is not None]


def text(title: str) -> bytes:
    """Return a text as PDF writes it."""
    return b"<" + ("\ufeff" + title).encode("utf-16-be").hex().encode() + b">"


def write(document: Document) -> bytes:
    """Return a PDF of the same objects, those without a stream packed together."""
    objects = {n: DATES.sub(b"", each) for n, each in document.objects.items()}
    loose = {n: each for n, each in objects.items() if b"stream" in each}
    packed = [n for n in objects if n not in loose]
    rows = {0: (0, 0, 65535)}
    for start in range(0, len(packed), GROUP):
        group = packed[start : start + GROUP]
        number = max(objects) + 1 + start // GROUP
        loose[number] = together({n: objects[n] for n in group})
        rows |= {n: (2, number, i) for i, n in enumerate(group)}
    return assemble(loose, rows, document.trailer)


def together(objects: dict[int, bytes]) -> bytes:
    """Return objects as one packed stream."""
    heads, at = [], 0
    for number, each in objects.items():
        heads.append(f"{number} {at}")
        at += len(each) + 1
    head = " ".join(heads).encode() + b"\n"
    kind = f"/Type /ObjStm /N {len(objects)} /First {len(head)}"
    return stream(kind, head + b"\n".join(objects.values()))


def stream(kind: str, data: bytes) -> bytes:
    """Return a packed stream."""
    small = zlib.compress(data, 9)
    head = f"<<{kind} /Filter /FlateDecode /Length {len(small)}>>\nstream\n"
    return head.encode() + small + b"\nendstream"


def assemble(
    loose: dict[int, bytes], rows: dict[int, tuple[int, int, int]], trailer: bytes
) -> bytes:
    """Return the file: its loose objects, and a table of all."""
    parts, at = [HEADER], len(HEADER)
    table = max(loose) + 1
    for number, each in loose.items():
        parts.append(f"{number} 0 obj\n".encode() + each + b"\nendobj\n")
        rows[number] = (1, at, 0)
        at += len(parts[-1])
    rows[table] = (1, at, 0)
    free = (0, 0, 65535)
    entries = b"".join(
        kind.to_bytes(1, "big") + where.to_bytes(4, "big") + index.to_bytes(2, "big")
        for kind, where, index in (rows.get(n, free) for n in range(table + 1))
    )
    names = (f"/{key} {reference(trailer, key.encode())} 0 R" for key in ("Root", "Info"))
    kind = f"/Type /XRef /Size {table + 1} /W [1 4 2] {' '.join(names)}"
    parts.append(f"{table} 0 obj\n".encode() + stream(kind, entries) + b"\nendobj\n")
    return b"".join(parts) + f"startxref\n{at}\n%%EOF\n".encode()
