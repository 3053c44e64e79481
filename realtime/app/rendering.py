"""Switch between rendering here and on another machine while a session runs, without a new neutral pose."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from livepuppet.core.errors import UserError

if TYPE_CHECKING:
    from livepuppet.realtime.app.loop import LiveLoop
    from livepuppet.realtime.remote.renderer import RemoteRenderer

#: What leaves this machine, before it does.
WHAT_LEAVES = (
    "{place} renders: your avatar's picture goes there, and then the pose of your face, some 50 bytes a frame. Your camera's "
    "picture stays here."
)


def render_here(live: LiveLoop) -> None:
    """End the session at the server, and render here. In the loop's thread."""
    renderer = live.animator.renderer
    if renderer is None:
        live.notify("This machine renders already.")
        return
    live.use_renderer(None)
    renderer.close()
    live.notify("This machine renders now.")


def render_remotely(live: LiveLoop) -> None:
    """Have the session's server render, once it has the avatar. In the loop's thread, which goes on meanwhile."""
    if live.animator.renderer is not None:
        live.notify("Another machine renders already.")
        return
    if not live.server:
        raise UserError(
            "Start with --server and the address that livepuppet serve prints, to have another machine render."
        )
    threading.Thread(target=_connect, args=(live, live.server), name="connecting", daemon=True).start()


def _connect(live: LiveLoop, server: str) -> None:
    from livepuppet.realtime.remote.engine import server_address
    from livepuppet.realtime.remote.renderer import RemoteRenderer

    renderer = None
    try:
        address = server_address(server)
        live.notify(WHAT_LEAVES.format(place=address.place))
        renderer = RemoteRenderer(address, live.animator.engine.model_name)
        renderer.prepare(live.animator.avatar, live.animator.remote_canvas())
    except UserError as error:
        if renderer is not None:
            renderer.close()
        live.notify(str(error))
        return
    live.call(lambda: _use(live, renderer))


def _use(live: LiveLoop, renderer: RemoteRenderer) -> None:
    if live.animator.renderer is not None:
        # Somebody asked twice.
        renderer.close()
        return
    live.use_renderer(renderer)
    live.notify(f"{renderer.place} renders now.")
