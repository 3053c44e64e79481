"""Remote rendering in the application: serve and run on the command line, doctor, and switching while live."""

from __future__ import annotations

import datetime
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import tiny_bundle
from click.testing import CliRunner
from media import gradient, read_clip, red_picture, write_clip, write_picture

pytest.importorskip("starlette", reason="the extra 'studio' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'studio' is not installed")
pytest.importorskip("websockets.sync.client", reason="the extra 'studio' is not installed")

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import actions, settings
from livepuppet.realtime.app.commands.serve import serve
from livepuppet.realtime.app.doctor import server as doctor
from livepuppet.realtime.app.render_server import RenderServer
from livepuppet.realtime.app.session import Session
from livepuppet.realtime.app.settings import Settings, merge
from livepuppet.realtime.app.studio.tls import own_certificate
from livepuppet.realtime.engines import load_engine
from livepuppet.realtime.remote.connection import ServerAddress, _secured

TOKEN = "t" * 40
CLI = [sys.executable, "-m", "livepuppet"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture
def files(tmp_path):
    """An avatar and a driving clip."""
    avatar = write_picture(tmp_path / "avatar.png", gradient(64, 64))
    levels = range(100, 180, 2)
    return avatar, write_clip(tmp_path / "driving.mp4", [red_picture(level) for level in levels], rate=50)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


@contextmanager
def serving(bundle, folder):
    """`livepuppet serve`, and the address that it prints."""
    environment = {**os.environ, settings.FOLDER_VARIABLE: str(folder)}
    command = [*CLI, "serve", "--port", "0", "--model", str(bundle)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield next(line for line in process.stderr if "--server" in line).split("'")[1]
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_serve_and_run_on_the_command_line(bundle, files, tmp_path):
    avatar, driving = files
    stats, output = tmp_path / "stats.json", tmp_path / "out.mp4"
    with serving(bundle, tmp_path / "config") as address:
        arguments = (
            "run",
            "--engine",
            "remote",
            "--avatar",
            avatar,
            "--driving",
            driving,
            "--loop",
            "--model",
            bundle,
        )
        arguments += (
            "--size",
            "128x96",
            "--crop",
            "full",
            "--frames",
            20,
            "--stats",
            stats,
            "--output",
            output,
        )
        result = subprocess.run(
            [*CLI, *map(str, arguments)],
            env={
                **os.environ,
                "LIVEPUPPET_SERVER": address,
                settings.FOLDER_VARIABLE: str(tmp_path / "config"),
            },
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
    assert result.returncode == 0, result.stderr
    # What leaves this machine is told, the token is not.
    assert "your avatar's picture goes there" in result.stderr and "bytes up" in result.stderr
    assert address.partition("token=")[2] not in result.stderr
    found = json.loads(stats.read_text())
    assert found["frames"] == 20 and found["engine"] == "remote"
    assert found["remote"]["delay_ms"]["p50"] > 0 and found["remote"]["bytes_up_per_frame"] < 200
    assert read_clip(output)[0][-1][:, 40:90].mean() > 40


def test_run_needs_an_address(livepuppet, files, bundle, monkeypatch):
    monkeypatch.delenv("LIVEPUPPET_SERVER", raising=False)
    avatar, driving = files
    command = ("run", "--engine", "remote", "--avatar", avatar, "--driving", driving, "--model", bundle)
    result = livepuppet(*command)
    assert result.returncode == 2 and "Say which machine renders" in result.stderr
    result = livepuppet(*command, "--server", f"http://127.0.0.1:1/#token={TOKEN}")
    assert result.returncode == 2 and "Nobody answers at 127.0.0.1:1" in result.stderr


def test_nothing_of_it_is_imported_without_being_asked_for():
    script = (
        "import sys, livepuppet.realtime.app.commands.run, livepuppet.realtime.app.session, livepuppet.realtime.animator\n"
        "print([name for name in sys.modules if '.remote' in name or name.split('.')[0] in ('websockets', 'uvicorn')])"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def made_for(name, folder, days=30, passphrase=None):
    """Files of a certificate for `name`, and of its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = x509.SubjectAlternativeName([x509.DNSName(f"*.{name}"), x509.DNSName(name)])
    made = (
        x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    encryption = (
        serialization.NoEncryption()
        if passphrase is None
        else serialization.BestAvailableEncryption(passphrase)
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    files = folder / f"{name} {days}.pem", folder / f"{name} {days} key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(secret)
    return files


def test_a_certificate_of_ones_own(bundle, tmp_path):
    name = "draw.example.org"
    own, key = made_for(name, tmp_path)
    fingerprint, names = own_certificate(own, key)
    assert names == (name,)
    server = RenderServer(
        load_engine("onnx", bundle, threads=1), [TOKEN], certificate=(own, key), names=names
    )
    try:
        told = server.address(name, TOKEN, fingerprint)
        assert told.startswith(f"https://{name}:{server.port}/#")
        address = ServerAddress.parse(told)
        # There is no such name here: the connection goes to this computer, and only the name that is asked for is that.
        for host, status in ((name, b"101"), ("other.example.org", b"403")):
            plain = socket.create_connection(("127.0.0.1", server.port))
            with _secured(plain, address) as wire:
                wire.sendall(
                    f"GET /render HTTP/1.1\r\nHost: {host}:{server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    f"Sec-WebSocket-Protocol: livepuppet, token.{TOKEN}\r\n\r\n".encode()
                )
                assert status in wire.recv(64).split(b"\r\n")[0]
    finally:
        server.close()


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path):
    own, key = made_for("a.example.org", tmp_path)
    old, old_key = made_for("a.example.org", tmp_path, days=-1)
    locked, locked_key = made_for("b.example.org", tmp_path, passphrase=b"secret")
    for files, sentence in (
        ((own, old_key), "of each other"),
        ((key, own), "of each other"),
        ((old, old_key), "no longer valid"),
        ((locked, locked_key), "has a passphrase"),
        ((tmp_path / "none.pem", key), "cannot be read"),
        ((own, tmp_path / "none.pem"), "cannot be read"),
    ):
        with pytest.raises(UserError, match=sentence):
            own_certificate(*files)
    for options in (
        ["--certificate", str(own)],
        ["--key", str(key), "--listen", "127.0.0.1"],
        ["--certificate", str(own), "--key", str(key)],
    ):
        result = CliRunner().invoke(serve, options)
        assert "belong together" in str(result.exception or result.output)


def test_doctor_asks_the_server(bundle, monkeypatch):
    monkeypatch.setattr(doctor, "read_bundle", lambda folder: {"preset": {"name": engine.model_name}})
    engine = load_engine("onnx", bundle, threads=1)
    server = RenderServer(engine, [TOKEN], places=1)
    address = f"http://127.0.0.1:{server.port}/#token={TOKEN}"
    try:
        chapter = doctor.server(address)
        assert [finding.verdict for finding in chapter.findings] == ["OK"]
        assert dict(chapter.info)["encrypted"].startswith("no") and TOKEN not in str(chapter)
        wait_for(lambda: server.sessions == 0)
        monkeypatch.setattr(doctor, "LAGGING", 0.0)
        assert doctor.server(address).findings[0].verdict == "WARN"
        wait_for(lambda: server.sessions == 0)
        monkeypatch.setattr(server, "_most_places", 0)
        (full,) = doctor.server(address).findings
        assert full.verdict == "WARN" and "places are taken" in full.remedy
    finally:
        server.close()
    (gone,) = doctor.server(address).findings
    # Reports are shown to others.
    assert gone.verdict == "FAIL" and "127.0.0.1" not in gone.remedy
    assert doctor.server("rubbish").findings[0].verdict == "FAIL"


def test_a_live_session_goes_to_another_machine_and_back(bundle, files):
    avatar, driving = files
    engine = load_engine("onnx", bundle, threads=1)
    server = RenderServer(engine, [TOKEN])
    chosen = {"avatar": str(avatar), "driving": str(driving), "loop": True, "outputs": ("none",)}
    chosen |= {"crop": "full", "enabled": False, "size": "128x96", "countdown": 0.0}
    told = []
    address = f"http://127.0.0.1:{server.port}/#token={TOKEN}"
    local = load_engine("onnx", bundle, threads=1)
    with Session(
        merge(Settings(), chosen), local, server=address, keyboard=False, notify=told.append
    ) as session:
        live, animator = session.live, session.animator
        thread = threading.Thread(target=session.run)
        thread.start()
        try:
            wait_for(lambda: live.stats.frames > 3)
            neutral = animator.retargeter.initial
            live.post("render", "remote")
            wait_for(lambda: any("renders now" in sentence for sentence in told))
            assert any("your avatar's picture goes there" in sentence for sentence in told)
            frames = live.stats.frames
            wait_for(lambda: live.stats.frames > frames + 5)
            assert live.state()["remote"]["frames"] > 0 and server.connections == 1
            live.post("render", "here")
            wait_for(lambda: "This machine renders now." in told)
            frames = live.stats.frames
            wait_for(lambda: live.stats.frames > frames + 5 and server.sessions == 0)
            assert live.state()["remote"] is None and animator.retargeter.initial is neutral
            # Nobody there: it goes on here.
            live.server = f"http://127.0.0.1:1/#token={TOKEN}"
            live.post("render", "remote")
            wait_for(lambda: any("Nobody answers" in sentence for sentence in told))
            assert animator.renderer is None and not live.stats.errors
        finally:
            live.stop()
            thread.join(30)
    server.close()


def test_switching_takes_here_or_remote():
    assert actions.checked("render", "here") == "here" and actions.checked("render") is None
    with pytest.raises(UserError, match="here or remote"):
        actions.checked("render", "elsewhere")
