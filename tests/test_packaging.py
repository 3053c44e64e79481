"""What an installation must hold: an editable one hides what is missing from it."""

import configparser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("realtime", "model", "export", "train", "benchmarks", "livepuppet")


def test_every_folder_with_code_is_a_listed_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    parts = {
        code.parent.relative_to(ROOT).parts for folder in FOLDERS for code in (ROOT / folder).rglob("*.py")
    }
    found = {".".join(part if part[0] == "livepuppet" else ("livepuppet", *part)) for part in parts}
    assert listed == found


def test_imports_point_downwards():
    """The folders' order of the design: nobody imports from a folder above.

    But for the commands of `train` and `export`, which put parts together as the command line's others do: recordings are
    framed by the live path's own code, what was fine-tuned is exported, and the live path's engines are compared with
    PyTorch. Nothing may import them.
    """
    allowed = {
        "livepuppet/core": {"core"},
        "model": {"model", "core"},
        "export": {"export", "model", "core"},
        "realtime": {"realtime", "core"},
        "train": {"train", "model", "core"},
        "benchmarks": {"benchmarks", "core", *FOLDERS},
    }
    for folder, names in allowed.items():
        for code in (ROOT / folder).rglob("*.py"):
            for line in code.read_text().splitlines():
                words = line.split()
                if not line.strip().startswith(("from livepuppet.", "import livepuppet.")):
                    continue
                target = words[1].split(".")[1]
                if folder == "train" and code.parent.name == "commands":
                    assert target != "benchmarks", f"{code}: {line}"
                    continue
                if folder == "export" and code.name in ("commands.py", "verify.py"):
                    assert target in ("export", "model", "realtime", "core"), f"{code}: {line}"
                    continue
                above = (
                    "livepuppet.train.commands",
                    "livepuppet.export.commands",
                    "livepuppet.export.verify",
                )
                assert not words[1].startswith(above), f"{code}: {line}"
                if folder == "realtime" and target == "model":
                    # Only inside the engines that run weights, which are asked for.
                    assert code.name in ("pytorch.py", "programs.py", "tensorrt.py") and line.startswith(
                        "    "
                    ), f"{code}: {line}"
                    continue
                assert target in names, f"{code}: {line}"
