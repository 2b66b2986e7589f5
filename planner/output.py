"""Writes files and folders whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from planner import yaml_io
from planner.errors import InputError


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file in one step: beside it first, then renamed.

    Raises:
        InputError: it cannot be written.
    """
    yaml_io.check_writable(path)
    yaml_io.write_bytes(path, content.encode() if isinstance(content, str) else content)


def write_folder(folder: Path, files: Mapping[str, str | bytes], *, force: bool = False) -> None:
    """Write files into a folder, in one step: beside it first, then renamed.

    Raises:
        InputError: the place is a file, holds something already and ``force`` is off, or cannot be written.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError.single(str(folder), "is no folder; name one that is not there yet, or an empty one")
    try:
        if folder.exists() and any(folder.iterdir()) and not force:
            raise InputError.single(str(folder), "holds files already; name another folder, or --force replaces it all")
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError.single(str(folder), f"cannot be written: {error.strerror}") from None
    try:
        for path, content in files.items():
            _write(beside / path, content)
        beside.chmod(0o777 & ~_umask())
        _replace(folder, beside)
    except OSError as error:
        raise InputError.single(str(folder), f"cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(content)
    if path.suffix == ".sh":
        path.chmod(path.stat().st_mode | 0o111)


def _replace(folder: Path, beside: Path) -> None:
    """Put the new folder in the old one's place; the old one stays until the new one is there."""
    if not folder.exists():
        beside.rename(folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.")) / "old"
    folder.rename(old)
    try:
        beside.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old.parent, ignore_errors=True)
