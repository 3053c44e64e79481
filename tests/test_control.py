"""The control server over real connections on 127.0.0.1: what it does, and whom it refuses."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import threading

import pytest

from livepuppet.core.errors import UserError
from livepuppet.realtime.app import actions, control, keys, settings
from livepuppet.realtime.app.cli import main
from livepuppet.realtime.app.control import ControlServer

TOKEN = "t" * 43


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path))
    # A proxy for the web must not get to see the token.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    return tmp_path


class Session:
    """Stands for `Live`: checks as it does, and keeps what was posted."""

    def __init__(self):
        self.posted = []
        self.facts = {"mode": "live", "avatars": ["Cat", "a dog"], "number": 1}

    def post(self, action, value=None):
        self.posted.append((action, actions.checked(action, value)))

    def state(self):
        if self.facts is None:
            raise RuntimeError("just a moment")
        return self.facts


@pytest.fixture
def session():
    return Session()


@pytest.fixture
def server(session):
    server = ControlServer(session.post, session.state, TOKEN, 0)
    yield server
    server.close()


def ask(server, method, path, body=None, **headers):
    """Status and answer; with the token and the right Host unless `headers` say otherwise (None leaves one out)."""
    sent = {"Host": f"127.0.0.1:{server.port}", "Authorization": f"Bearer {TOKEN}", **headers}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.putrequest(method, path, skip_host=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        if data is not None and "Content-Length" not in headers:
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_the_state(server, session):
    assert ask(server, "GET", "/state") == (200, session.facts)


@pytest.mark.parametrize(
    "action", [binding.action for binding in keys.BINDINGS if binding.action != "select"]
)
def test_every_key_has_its_action(server, session, action):
    assert ask(server, "POST", f"/do/{action}") == (200, {"done": action})
    assert session.posted == [(action, None)]


def test_no_action_has_the_name_of_a_command():
    assert not {"state", "avatar", "set", "url", "token"} & set(actions.ACTIONS)


def test_an_address_alone_is_enough(server, session):
    assert ask(server, "GET", f"/do/next?token={TOKEN}", Authorization=None)[0] == 200
    assert ask(server, "GET", f"/do/mirror?value=true&token={TOKEN}", Authorization=None)[0] == 200
    assert ask(server, "GET", f"/do/select?value=a+dog&token={TOKEN}", Authorization=None)[0] == 200
    assert session.posted == [("next", None), ("mirror", True), ("select", "a dog")]


def test_values_of_actions(server, session):
    assert ask(server, "POST", "/do/freeze", {"value": True})[0] == 200
    assert ask(server, "POST", "/do/select", {"value": 2})[0] == 200
    assert session.posted == [("freeze", True), ("select", 2)]


def test_avatars_by_name_and_number(server, session):
    assert ask(server, "POST", "/avatar", {"name": "cat"})[0] == 200
    assert ask(server, "POST", "/avatar", {"number": 2})[0] == 200
    assert session.posted == [("select", "cat"), ("select", 2)]
    for body, message in (
        ({"name": "horse"}, "there is Cat, a dog"),
        ({"number": 3}, "the last one is 2"),
        ({"number": 0}, "from 1"),
        ({"number": True}, "from 1"),
        ({"name": 5}, "text"),
        ({}, "Give"),
        ({"name": "cat", "number": 1}, "Give"),
        ({"name": "cat", "colour": 1}, "Give"),
    ):
        status, answer = ask(server, "POST", "/avatar", body)
        assert status == 400 and message in answer["error"]
    assert len(session.posted) == 2


def test_setting_several_values_does_all_or_nothing(server, session):
    assert ask(server, "POST", "/set", {"strength": 0.8, "mirror": True})[0] == 200
    assert session.posted == [("strength", 0.8), ("mirror", True)]
    for body, expected, message in (
        ({"turn": 0.5, "strength": 9}, 400, "from 0 to 2"),
        ({"turn": 0.5, "mirror": "yes"}, 400, "true or false"),
        ({"turn": 0.5, "wobble": 1}, 404, "wobble"),
        ({"turn": None}, 400, "value"),
        ({}, 400, "Give"),
    ):
        status, answer = ask(server, "POST", "/set", body)
        assert (status, len(session.posted)) == (expected, 2) and message in answer["error"]


def test_an_unknown_action_is_answered_with_the_list(server, session):
    status, answer = ask(server, "POST", "/do/dance")
    assert status == 404 and all(binding.action in answer["error"] for binding in keys.BINDINGS)
    assert ask(server, "POST", "/do/reset", {"value": 3})[0] == 400
    assert ask(server, "POST", "/do/select")[0] == 400
    assert ask(server, "POST", "/do/strength", {"value": float("nan")})[0] == 400
    assert session.posted == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/state"),
        ("GET", "/do"),
        ("POST", "/do/a/b"),
        ("GET", "/../etc/passwd"),
        ("POST", "//x"),
    ],
)
def test_other_paths(server, method, path):
    status, answer = ask(server, method, path)
    assert status == 404 and "POST /set" in answer["error"]


def test_reading_addresses_change_nothing_but_by_do(server, session):
    assert ask(server, "GET", "/set?strength=1")[0] == 405
    assert ask(server, "GET", "/avatar?number=1")[0] == 405
    for method in ("PUT", "DELETE", "OPTIONS"):
        assert ask(server, method, "/do/next")[0] == 501
    assert session.posted == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": None},
        {"Authorization": "Bearer " + "u" * 43},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic " + TOKEN},
        {"Authorization": "Bearer " + TOKEN[:-1]},
        {"Authorization": "Bearer tökén"},
    ],
)
def test_without_the_token_nothing(server, session, headers):
    for method, path in (
        ("POST", "/do/next"),
        ("GET", "/state"),
        ("GET", "/do/next?token=x"),
        ("GET", "/nowhere"),
    ):
        encoded = {name: value and value.encode("latin-1") for name, value in headers.items()}
        status, answer = ask(server, method, path, **encoded)
        assert status == 401 and TOKEN not in json.dumps(answer)
    assert session.posted == []


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "evil.example:8643", "127.0.0.1.evil.example", "10.0.0.1"]
)
def test_names_that_were_bent_to_this_computer_are_refused(server, session, host):
    assert ask(server, "POST", "/do/next", Host=host)[0] == 403
    assert session.posted == []


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:8643"])
def test_names_of_this_computer(server, host):
    assert ask(server, "GET", "/state", Host=host)[0] == 200


def test_web_pages_of_other_places_are_refused(server, session):
    assert ask(server, "POST", "/do/next", Origin="https://evil.example")[0] == 403
    assert ask(server, "POST", "/do/next", Origin=f"http://127.0.0.1:{server.port}")[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", f"/state?token={TOKEN}")
    response = connection.getresponse()
    assert response.status == 200 and not response.getheader("Access-Control-Allow-Origin")
    assert response.getheader("Cache-Control") == "no-store"
    connection.close()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[1]", {}, 400),
        (b"[" * 4000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"{}", {"Content-Length": "two"}, 400),
        (b"", {"Content-Length": "-1"}, 400),
        (b"", {"Content-Length": "999999999999"}, 413),
        (b"", {"Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_bad_bodies(server, session, body, headers, status):
    assert ask(server, "POST", "/set", body, **headers)[0] == status
    assert session.posted == []


def test_a_state_that_fails_is_said_and_survived(server, session):
    session.facts = None
    status, answer = ask(server, "GET", "/state")
    assert status == 500 and "just a moment" in answer["error"] and "Traceback" not in answer["error"]
    session.facts = {"odd": {1, 2}}
    assert ask(server, "GET", "/state")[0] == 200


def test_slow_and_many_connections_do_not_hold_the_server(session, monkeypatch):
    monkeypatch.setattr(control, "MOST_SECONDS", 0.3)
    server = ControlServer(session.post, session.state, TOKEN, 0)
    lazy = []
    try:
        for _ in range(control.MOST_CONNECTIONS + 4):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            connection.sendall(b"POST /do/next HTTP/1.1\r\n")
            lazy.append(connection)
        # Each is cut in the end; then there is room again.
        for connection in lazy:
            assert connection.recv(1) == b""
        # On a busy computer an answer may take longer than the lazy ones had.
        monkeypatch.setattr(control, "MOST_SECONDS", 20)
        assert ask(server, "POST", "/do/next")[0] == 200
    finally:
        for connection in lazy:
            connection.close()
        server.close()


def test_many_at_once(server, session):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server, "POST", "/do/next")[0])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [200] * 8 and len(session.posted) == 8


def test_it_listens_on_this_computer_only(server):
    assert server._server.socket.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_one_sentence(server, session):
    with pytest.raises(UserError, match=f"port {server.port} .*settings set port"):
        ControlServer(session.post, session.state, TOKEN, server.port)


def test_it_stops_and_can_start_again_at_the_same_port(session):
    for _ in range(2):
        server = ControlServer(session.post, session.state, TOKEN, 0)
        port = server.port
        assert ask(server, "GET", "/state")[0] == 200
        assert control.running_port() == port
        server.close()
        server.close()
        assert not control.port_path().exists()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=2)


def test_the_port_of_another_session_is_left_alone(server):
    control.port_path().write_text("1234\n")
    server.close()
    assert control.running_port() == 1234


def test_a_read_only_folder_does_not_stop_the_server(session, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(settings.FOLDER_VARIABLE, str(tmp_path / "file"))
    server = ControlServer(session.post, session.state, TOKEN, 0)
    assert ask(server, "GET", "/state")[0] == 200
    server.close()


def test_the_token_is_made_once_and_kept_to_its_owner():
    token = control.control_token()
    assert len(token) >= 32 and control.control_token() == token
    if os.name == "posix":
        assert stat.S_IMODE(control.token_path().stat().st_mode) == 0o600
        control.token_path().chmod(0o644)
        assert control.control_token() != token
        assert stat.S_IMODE(control.token_path().stat().st_mode) == 0o600
    control.token_path().write_text("short")
    assert len(control.control_token()) >= 32


@pytest.fixture
def running(session):
    """A session that `livepuppet control` finds by itself."""
    server = ControlServer(session.post, session.state, control.control_token(), 0)
    yield server
    server.close()


def test_the_client(running, session, capsys):
    for arguments in (
        ("next",),
        ("mirror", "on"),
        ("avatar", "2"),
        ("avatar", "a", "dog"),
        ("set", "strength=0.8", "search=off", "background=#00ff00"),
    ):
        main(["control", *arguments])
    assert session.posted == [
        ("next", None),
        ("mirror", True),
        ("select", 2),
        ("select", "a dog"),
        ("strength", 0.8),
        ("search", False),
        ("background", "#00ff00"),
    ]
    assert capsys.readouterr().out == ""
    main(["control", "state"])
    assert json.loads(capsys.readouterr().out) == session.facts


def test_the_address_that_the_client_prints_works(running, session, capsys):
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for arguments in (("next",), ("select", "a", "dog"), ("mirror", "on")):
        main(["control", "url", *arguments])
        with opener.open(capsys.readouterr().out.strip(), timeout=20) as response:
            assert response.status == 200
    assert session.posted == [("next", None), ("select", "a dog"), ("mirror", True)]
    main(["control", "token"])
    assert capsys.readouterr().out.strip() == control.control_token()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dance",), "there is .*reset"),
        (("set", "strength=9"), "from 0 to 2"),
        (("set", "strength"), "KEY=VALUE"),
        (("set",), "strength=0.8"),
        (("avatar",), "name or number"),
        (("avatar", "horse"), "Cat, a dog"),
        (("url",), "which action"),
        (("next", "3"), "takes no value"),
    ],
)
def test_what_the_client_says_when_refused(running, capsys, arguments, message):
    import re

    with pytest.raises(SystemExit) as caught:
        main(["control", *arguments])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.startswith("livepuppet: ") and said.count("\n") == 1
    assert re.search(message, said) and control.control_token() not in said


def test_the_client_says_so_when_nothing_runs(capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SystemExit):
        main(["control", "next", "--port", str(port)])
    assert "No livepuppet that can be controlled runs here (nothing answers)" in capsys.readouterr().err
