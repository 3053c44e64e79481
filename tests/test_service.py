"""A service for many people: sessions are placed, moved and taken over, and nobody else notices."""

from __future__ import annotations

import pytest
import tiny_bundle
from media import gradient, write_picture

pytest.importorskip("starlette", reason="the extra 'service' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'service' is not installed")
pytest.importorskip("websockets.sync.client", reason="the extra 'service' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'service' is not installed")

from service import Service, wait_for

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.service.keys import Limits


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle.write_bundle(tmp_path_factory.mktemp("bundle") / "tiny-64")


@pytest.fixture(scope="module")
def avatar(tmp_path_factory):
    return write_picture(tmp_path_factory.mktemp("avatar") / "a.png", gradient(64, 64))


@pytest.fixture
def service(bundle):
    with Service(bundle) as service:
        yield service


def test_a_spare_takes_over_with_the_same_picture(service, avatar):
    service.add("one", "a")
    service.add("two", "b")
    client = service.client(avatar)
    before, neutral, first = client.picture(), client.animator.retargeter.initial, client.at
    wait_for(lambda: client.spare not in (None, first))
    service.workers.pop(first).close()
    assert (client.picture() == before).all()
    assert client.at != first and client.animator.retargeter.initial is neutral
    wait_for(lambda: service.directory._sessions[client.renderer._session].worker == client.at)


def test_a_worker_that_drains_loses_no_frame(service, avatar):
    first = service.add("one", "a")
    client = service.client(avatar)
    before = client.picture()
    service.add("two", "b")
    outcomes = []
    import threading

    thread = threading.Thread(target=first.drain)
    thread.start()
    while client.at == "one":
        outcomes.append(client.animator.step(gradient(64, 64)).fresh)
    thread.join(30)
    assert (client.picture() == before).all() and all(outcomes)
    assert not first._active()


def test_one_too_many_hears_when_to_come_again(service, avatar):
    service.add("one", places=1)
    client = service.client(avatar)
    client.picture()
    with pytest.raises(UserError, match=r"try again in about 10 min"):
        service.renderer()
    client.picture()


def test_limits_of_a_key(bundle, avatar):
    limits = {"ann": Limits(sessions=1), "bob": Limits(pixels=32 * 32), "eve": Limits(minutes=0)}
    with Service(bundle, limits) as service:
        service.add("one")
        service.client(avatar, "ann").picture()
        with pytest.raises(UserError, match="1 sessions"):
            service.renderer("ann")
        with pytest.raises(UserError, match="1,024 pixels"):
            service.client(avatar, "bob")
        eve = service.client(avatar, "eve")
        # Its first report with a session counts time, the next one ends it.
        wait_for(lambda: eve.picture() is not None and eve.renderer.problem is not None)
        with pytest.raises(UserError, match="come again tomorrow"):
            service.renderer("eve")
