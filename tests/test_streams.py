"""What is said cannot fail, and what cannot be imported is said in a sentence; in real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from livepuppet.core.packages import import_sentence
from livepuppet.realtime.app.doctor import checks

SET = [sys.executable, "-m", "livepuppet", "settings", "set", "selected", "顔"]


def run(words: list[str], tmp_path: Path, **options) -> subprocess.CompletedProcess:
    variables = {"LIVEPUPPET_CONFIG": str(tmp_path), "PYTHONIOENCODING": "utf-8", **options.pop("env", {})}
    return subprocess.run(words, env={**os.environ, **variables}, timeout=60, **options)


def written(tmp_path: Path) -> bool:
    return "顔" in (tmp_path / "settings.toml").read_text("utf-8")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_letters_that_an_encoding_lacks_are_escaped(tmp_path, encoding):
    done = run(SET, tmp_path, env={"PYTHONIOENCODING": encoding}, capture_output=True)
    assert done.returncode == 0 and written(tmp_path) and not done.stderr
    # Click takes ASCII for a system that was set up badly, and writes UTF-8.
    letters = rb"\u9854" if encoding == "cp1252" else "顔".encode()
    assert done.stdout.strip() == b'avatar.selected = "' + letters + b'"'


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_disk_under_standard_output_is_nobodys_concern(tmp_path):
    with open("/dev/full", "wb") as full:
        done = run(SET, tmp_path, stdout=full, stderr=full)
    assert done.returncode == 0 and written(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="descriptors are closed by a shell")
@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, closed):
    done = run(["sh", "-c", f'"$@" {closed}', "sh", *SET], tmp_path)
    assert done.returncode == 0 and written(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="descriptors are closed by a shell")
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    script = (
        "from livepuppet.core.streams import make_streams_unfailing, was_closed; make_streams_unfailing(); "
        f"file = open({str(tmp_path / 'a')!r}, 'w'); assert file.fileno() > 2 and was_closed(1) and was_closed(2); "
        "print('x' * 100000); import os; os.write(2, b'noise'); file.write('good')"
    )
    done = run(["sh", "-c", '"$@" >&- 2>&-', "sh", sys.executable, "-c", script], tmp_path)
    assert done.returncode == 0 and (tmp_path / "a").read_text() == "good"


def test_a_reader_that_went_away(tmp_path):
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(SET, tmp_path, stdout=write, stderr=write)
    finally:
        os.close(write)
    assert done.returncode == 0 and written(tmp_path)


def test_a_bad_start_still_has_its_status(tmp_path):
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(
            [sys.executable, "-m", "livepuppet", "settings", "set", "strength", "nan"], tmp_path, stderr=write
        )
    finally:
        os.close(write)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("package", "reason", "wanted"),
    [
        (
            "cv2",
            "libGL.so.1: cannot open shared object file: No such file or directory",
            "apt install libgl1",
        ),
        ("cv2", "DLL load failed while importing cv2", "Visual C++ Redistributable"),
        ("onnxruntime", "DLL load failed", "pip install --force-reinstall onnxruntime"),
        ("av", "undefined symbol", "pip install --force-reinstall av"),
    ],
)
def test_a_package_that_cannot_be_loaded(tmp_path, package, reason, wanted):
    (tmp_path / f"{package}.py").write_text(f"raise ImportError({reason!r})\n")
    from livepuppet.realtime import bundled

    words = [
        sys.executable,
        "-m",
        "livepuppet",
        "animate",
        "--avatar",
        bundled.AVATAR,
        "--driving",
        bundled.DRIVING,
    ]
    words += ["--output", tmp_path / "o.mp4", "--engine", "onnx", "--rig", "off"]
    done = run(
        [str(word) for word in words],
        tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"'{package}'" in done.stderr and reason in done.stderr and wanted in done.stderr


def test_the_doctor_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "platformdirs.py").write_text("raise ImportError('it is broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "platformdirs", raising=False)

    def check():
        import platformdirs

        return platformdirs

    [finding] = checks.examine("Settings", check).findings
    assert (
        finding.verdict == "FAIL"
        and "'platformdirs' is installed but cannot be loaded (it is broken)" in finding.text
    )
    assert finding.remedy == "Pip install --force-reinstall platformdirs." or finding.remedy.startswith(
        "Install"
    )
    monkeypatch.delitem(sys.modules, "platformdirs", raising=False)


def test_errors_of_livepuppet_itself_are_no_packages():
    assert (
        import_sentence(ImportError("cannot import name 'x' from 'livepuppet.core'", name="livepuppet.core"))
        is None
    )
    # What click calls is not click's.
    with pytest.raises(ImportError) as caught:
        click.Command(
            "x", callback=lambda: exec("from json import nothing", {"__name__": "livepuppet.x"})
        ).main([], standalone_mode=False)
    assert import_sentence(caught.value) is None
    missing = ModuleNotFoundError("No module named 'mss'", name="mss")
    assert import_sentence(missing) == "The package 'mss' is missing: pip install mss."


def test_python_hears_it_as_an_import_error(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    done = run(
        [sys.executable, "-c", "import livepuppet; livepuppet.animate"],
        tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: The package 'cv2' is installed but cannot be loaded"
    )
