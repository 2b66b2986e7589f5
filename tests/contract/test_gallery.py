"""The README's gallery: its pictures are those that the script makes of what commands draw."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "gallery.py")
gallery = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(gallery)


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_a_readme_shows_every_picture_of_the_script_and_no_other(readme):
    shown = re.findall(r"\]\(docs/gallery/([\w-]+\.png)\)", (ROOT / readme).read_text(encoding="utf-8"))
    assert sorted(shown) == sorted([*gallery.PICTURES, gallery.WORKBOOK])
    assert sorted(file.name for file in gallery.FOLDER.iterdir()) == sorted(shown)


def test_the_script_makes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "FOLDER", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    gallery.main()
    made = {file.name for file in tmp_path.iterdir() if file.read_bytes().startswith(b"\x89PNG")}
    assert made - {gallery.WORKBOOK} == set(gallery.PICTURES)
