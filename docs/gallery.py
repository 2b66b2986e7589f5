"""Makes the pictures of the README's gallery: `python docs/gallery.py`.

Each is what a command draws; the page of the workbook is drawn by LibreOffice, and left alone where there is none.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

FOLDER = Path(__file__).parent / "gallery"
QUICKSTART = Path(__file__).parents[1] / "scenarios" / "quickstart.yaml"
_LENGTH, _BANDWIDTH = "workloads.chat.input_tokens", "hardware.h100.memory.bandwidth"
COMMANDS = (
    ("solve", str(QUICKSTART), "--out", "plan.json"),
    ("explain", "plan.json", "--plot", "."),
    ("pareto", str(QUICKSTART), "--x", "cost", "--y", "requests", "--plot", "."),
    ("sensitivity", str(QUICKSTART), "--map", _LENGTH, _BANDWIDTH, "--plot", "."),
    ("export", "plan.json", "--to", "xlsx", "--out", "plan.xlsx"),
)
# The picture of the gallery, and what the commands call it.
PICTURES: Mapping[str, str] = MappingProxyType(
    {
        "time-budget.png": "budget_chat-mixed-1.png",
        "roofline.png": "roofline_chat-mixed-1.png",
        "pareto.png": "pareto.png",
        "tornado.png": "tornado.png",
        "flip-map.png": "flip_map.png",
    }
)
WORKBOOK = "workbook.png"
_PAGE, _DPI = "2", "80"  # the charts


def main() -> None:
    """Run the commands in a folder of their own, and keep the pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        for command in COMMANDS:
            subprocess.run([sys.executable, "-m", "planner", *command], cwd=here, check=True, stdout=subprocess.DEVNULL)
        for picture, made in PICTURES.items():
            shutil.copyfile(here / made, FOLDER / picture)
            print(FOLDER / picture)
        if shutil.which("soffice") is None or shutil.which("pdftoppm") is None:
            print(f"{FOLDER / WORKBOOK}: left as it is, without LibreOffice and poppler")
            return
        for words in (
            ("soffice", "--headless", "--convert-to", "pdf", "plan.xlsx"),
            ("pdftoppm", "-r", _DPI, "-f", _PAGE, "-l", _PAGE, "-singlefile", "-png", "plan.pdf", "page"),
        ):
            subprocess.run(words, cwd=here, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.copyfile(here / "page.png", FOLDER / WORKBOOK)
        print(FOLDER / WORKBOOK)


if __name__ == "__main__":
    main()
