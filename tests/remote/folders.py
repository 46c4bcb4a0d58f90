"""Folders with a few files of text."""

from pathlib import Path


def write(folder: Path, **files: str) -> Path:
    """Write files, `a__b` as a.b."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def read(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}
