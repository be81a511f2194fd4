"""Pack the built book into one file: unpacked anywhere, it is read without network."""

import zipfile
from pathlib import Path

__all__ = ["NAME", "pack"]

NAME = "in-context-learning-reproduced"
FIRST = "book/index.html"
NOT_PACKED = (".buildinfo", "objects.inv")  # for programs that build, not for readers
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first date that the format knows
READABLE = 0o644 << 16
STORED = {".pdf", ".zip", ".whl", ".woff", ".woff2", ".png"}  # packed already


def pack(site: Path, folder: Path, version: str) -> Path:
    """Return the file in `folder` that holds the site; same site, same bytes.

    Parameters
    ----------
    site : Path
        The built book, ``_build/html``.
    folder : Path
        Where to write the file; an older one stays until the new one is whole.
    version : str
        Named in the file and in the folder that it unpacks to.

    Raises
    ------
    ValueError
        When there is no built book.
    """
    if not (site / FIRST).exists():
        raise ValueError(f"no built book in {site}; run `python3 run.py book` first")
    name = f"{NAME}-{version}"
    new, target = folder / f"{name}.zip.new", folder / f"{name}.zip"
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for path in packed_files(site):
            add(packed, path, f"{name}/{path.relative_to(site).as_posix()}")
    new.replace(target)
    return target


def packed_files(site: Path) -> list[Path]:
    """Return the files to pack, in a fixed order."""
    files = (path for path in site.rglob("*") if path.is_file() and path.name not in NOT_PACKED)
    return sorted(files, key=lambda path: path.relative_to(site).as_posix())


def add(packed: zipfile.ZipFile, path: Path, name: str) -> None:
    """Add one file under `name`, with nothing of the day and the machine."""
    entry = zipfile.ZipInfo(name, EARLIEST)
    entry.external_attr, entry.create_system = READABLE, 3
    stored = path.suffix in STORED
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    packed.writestr(entry, path.read_bytes())
