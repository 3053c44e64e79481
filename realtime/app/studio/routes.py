"""What the studio's server answers, request by request. Who may ask has been checked by `access`."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from livepuppet.core.errors import UserError
from livepuppet.core.numbers import number_of
from livepuppet.realtime.app.requests import LARGEST_BODY, Refusal, Requests, as_json, parse_body, refused
from livepuppet.realtime.app.studio.access import PROTOCOL
from livepuppet.realtime.app.studio.controller import FIGURES, Controller
from livepuppet.realtime.app.studio.feeds import Feed, Shot, Watcher
from livepuppet.realtime.app.studio.server import is_loopback
from livepuppet.realtime.app.studio.uploads import TooLarge, Upload

STATIC_FOLDER = Path(__file__).parent / "static"

#: Seconds within which a body has to be here, and an upload.
BODY_SECONDS, UPLOAD_SECONDS = 5.0, 120.0

#: Pictures that come in at the same time. One after the other is decoded.
MOST_UPLOADS = 8

#: Seconds that a client may take over one picture before its connection is cut, and that one waits
#: for the first.
PATIENCE = 10.0

#: Pictures on their way to one page: the one that it draws, and the next.
IN_FLIGHT = 2

#: Seconds between two looks at the state for a page, and between two states of which only figures
#: differ.
STATE_SECONDS, FIGURES_SECONDS = 0.2, 0.5

_BOUNDARY = b"livepuppet-picture"

Handler = Callable[[Request], Awaitable[Response]]


def application(controller: Controller, requests: Requests) -> Starlette:
    """The studio's routes."""
    api = _Api(controller, requests)
    return Starlette(
        routes=[
            Route("/", _page("picture.html")),
            Route("/studio", _page("studio.html")),
            Route("/panel", _page("panel.html")),
            Mount("/static", StaticFiles(directory=STATIC_FOLDER)),
            Route("/stream.mjpg", api.stream),
            Route("/frame.jpg", api.frame),
            *api.control_routes(),
            Route("/api/description", _answered(api.description)),
            Route("/api/state", _answered(api.state)),
            Route("/api/avatars", _answered(api.upload), methods=["POST"]),
            Route("/api/avatars/{key:int}.jpg", api.thumbnail),
            Route("/api/ghost.jpg", api.ghost),
            Route("/api/do", _answered(api.do), methods=["POST"]),
            Route("/api/sources", _answered(api.sources)),
            Route("/api/sources/{number:int}.jpg", api.source),
            Route("/api/profiles", _answered(api.profiles)),
            Route("/api/findings", _answered(api.findings)),
            WebSocketRoute("/ws/state", api.state_socket),
            WebSocketRoute("/ws/picture", api.picture_socket),
            WebSocketRoute("/ws/camera", api.camera_socket),
        ],
        exception_handlers={404: _unknown, 405: _unknown},
    )


async def _unknown(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    return _json(status, {"error": "There is nothing at this address."})


def _page(name: str) -> Handler:
    async def page(request: Request) -> Response:
        return FileResponse(STATIC_FOLDER / name, media_type="text/html; charset=utf-8")

    return page


def _json(status: int, answer: Any) -> Response:
    try:
        body = as_json(answer)
    except ValueError:
        status, body = 500, as_json({"error": "What goes on cannot be said as JSON."})
    return Response(body, status, media_type="application/json")


def _answered(work: Callable[[Request], Awaitable[Any]]) -> Handler:
    """Answers with what `work` returns, or with what went wrong, as JSON."""

    async def answer(request: Request) -> Response:
        try:
            return _json(200, await work(request))
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:
            return _json(*refused(error))

    return answer


async def _body(request: Request) -> dict:
    """The JSON object that a request brings. Raises Refusal."""
    data = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for piece in request.stream():
                data += piece
                if len(data) > LARGEST_BODY:
                    raise Refusal(413, f"The body is larger than {LARGEST_BODY} bytes.")
    except TimeoutError:
        raise Refusal(408, "The body did not come in time.") from None
    return parse_body(bytes(data))


class _Api:
    """The routes that show or do something."""

    def __init__(self, controller: Controller, requests: Requests):
        self._controller, self._requests = controller, requests
        self._uploads = 0

    # The control commands, as every session has them.

    def control_routes(self) -> list[Route]:
        control = _answered(self._control)
        return [
            Route("/state", control),
            Route("/do/{action:path}", control, methods=["GET", "POST"]),
            Route("/avatar", control, methods=["GET", "POST"]),
            Route("/set", control, methods=["GET", "POST"]),
        ]

    async def _control(self, request: Request) -> dict:
        raw = request.scope["raw_path"].decode("ascii", "replace")
        parts = [unquote(part, errors="surrogateescape") for part in raw.split("/") if part]
        query = parse_qs(request.url.query, errors="surrogateescape")
        body = await _body(request) if request.method == "POST" else {}
        return self._requests.answer(request.method, parts, query, body)

    # What the page shows.

    async def description(self, request: Request) -> dict:
        return self._controller.described()

    async def state(self, request: Request) -> dict:
        return self._controller.state()

    async def sources(self, request: Request) -> dict:
        return {"sources": await run_in_threadpool(self._controller.sources)}

    async def profiles(self, request: Request) -> dict:
        return {"profiles": await run_in_threadpool(self._controller.profiles)}

    async def findings(self, request: Request) -> dict:
        return self._controller.findings(again=request.query_params.get("again") == "true")

    async def thumbnail(self, request: Request) -> Response:
        return await _jpeg(lambda: self._controller.thumbnail(request.path_params["key"]), keep=True)

    async def ghost(self, request: Request) -> Response:
        return await _jpeg(self._controller.ghost)

    async def source(self, request: Request) -> Response:
        return await _jpeg(lambda: self._controller.source_thumbnail(request.path_params["number"]))

    # What the page does.

    async def do(self, request: Request) -> dict:
        """`{"what": ..., "value": ...}` beside the actions of keys: outputs, sources, profiles."""
        body = await _body(request)
        controller, value = self._controller, body.get("value")
        if set(body) - {"what", "value"} or not isinstance(value, (str, dict)):
            raise Refusal(400, 'Give {"what": ..., "value": ...}.')
        text = value if isinstance(value, str) else ""
        steps: dict[str, Callable[[], None]] = {
            "source": lambda: controller.switch_source(text),
            "sound": lambda: controller.choose_sound(text),
            "sort": lambda: controller.sort(text),
            "remove": lambda: controller.remove_avatar(text),
            "restore": lambda: controller.restore_avatar(text),
            "apply profile": lambda: controller.apply_profile(text),
            "save profile": lambda: controller.save_profile(text),
        }
        what = str(body.get("what"))
        if what == "output" and isinstance(value, dict):
            kind, on = str(value.get("kind")), value.get("on")
            if not isinstance(on, bool):
                raise Refusal(400, "An output is switched on or off: true or false.")
            step = lambda: controller.switch_output(kind, on)  # noqa: E731
        elif what in steps and text:
            step = steps[what]
        else:
            raise Refusal(404, f"There is nothing called '{what[:40]}' to do.")
        await run_in_threadpool(step)
        return {"done": what}

    async def upload(self, request: Request) -> dict:
        """One picture as the body; `?name=` is its file's name."""
        declared = None
        if "content-length" in request.headers:
            try:
                declared = int(number_of(request.headers["content-length"], 0, whole=True))
            except ValueError:
                raise Refusal(400, "Content-Length has to be a number.") from None
        try:
            with anyio.fail_after(UPLOAD_SECONDS):
                return await self._store(request, declared)
        except TooLarge as error:
            raise Refusal(413, str(error)) from None
        except TimeoutError:
            raise Refusal(408, "The picture did not come in time.") from None

    async def _store(self, request: Request, declared: int | None) -> dict:
        if self._uploads >= MOST_UPLOADS:
            raise Refusal(503, "Other pictures are on their way: try again when they are here.")
        folder = self._controller.avatars_folder
        upload = Upload(folder, request.query_params.get("name", ""), declared)
        self._uploads += 1
        try:
            async for piece in request.stream():
                upload.write(piece)
            return {"stored": await run_in_threadpool(upload.store)}
        finally:
            self._uploads -= 1
            upload.discard()

    # Pictures for programs that know no websockets.

    async def frame(self, request: Request) -> Response:
        shot = None
        with anyio.move_on_after(PATIENCE):
            async with _Watching(self._controller.pictures) as watching:
                shot = await watching.next(0)
        if shot is None:
            return _json(503, {"error": "There is no picture yet."})
        return Response(shot.jpeg, media_type="image/jpeg")

    async def stream(self, request: Request) -> Response:
        return StreamingResponse(
            self._parts(), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        )

    async def _parts(self) -> AsyncIterator[bytes]:
        async with _Watching(self._controller.pictures) as watching:
            yield b"--" + _BOUNDARY
            number = 0
            while True:
                shot = await watching.next(number)
                number = shot.number
                head = f"\r\nContent-Type: image/jpeg\r\nContent-Length: {len(shot.jpeg)}\r\n\r\n".encode()
                # The boundary follows at once: browsers show a part only when they have seen its
                # end.
                yield head + shot.jpeg + b"\r\n--" + _BOUNDARY

    # Websockets.

    async def state_socket(self, socket: WebSocket) -> None:
        """The state: at once when something was done, its figures twice a second."""
        await socket.accept(PROTOCOL)
        listening = asyncio.ensure_future(_listen(socket, lambda message: None))
        before, due = {}, 0.0
        try:
            while not listening.done():
                state, now = self._controller.state(), time.monotonic()
                steady = {name: value for name, value in state.items() if name not in FIGURES}
                if steady != before or now >= due:
                    before, due = steady, now + FIGURES_SECONDS
                    await _send(socket, as_json(state).decode())
                await asyncio.wait([listening], timeout=STATE_SECONDS)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            pass
        finally:
            await _end(socket, listening)

    async def picture_socket(self, socket: WebSocket) -> None:
        """The moving picture. `?width=` is how wide it is shown, `?alpha=1` wants transparency; a
        message `{"width": 640}` changes it.
        """
        await self._shots(socket, self._controller.pictures, self._controller.page_delay.add)

    async def camera_socket(self, socket: WebSocket) -> None:
        """The camera's picture, with the driver's square in its header. `{"near": true}` says that
        the person looks at it, and wants it smooth.
        """
        await self._shots(socket, self._controller.camera)

    async def _shots(
        self, socket: WebSocket, feed: Feed, told: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """Newest pictures, never more than `IN_FLIGHT` that the page has not drawn: who is slow misses
        some, and sees what it sees in time.
        """
        query = socket.query_params
        wanted = query.get("width", "")
        width = int(wanted) if wanted.isdecimal() and len(wanted) <= 5 else 0
        try:
            watching = _Watching(feed, width, query.get("alpha") == "1")
        except UserError as error:
            await socket.close(1013, str(error)[:100])
            return
        await socket.accept(PROTOCOL)

        def heard(message: dict) -> None:
            # A page that has drawn one says how old it was by then; or asks what time it is.
            ping = message.get("ping")
            if isinstance(ping, (int, float)) and math.isfinite(ping) and len(answers) < IN_FLIGHT:
                answers.append({"pong": ping, "now": time.perf_counter() * 1000})
            elif isinstance(message.get("width"), int):
                watching.resize(message["width"])
            elif isinstance(message.get("near"), bool):
                watching.near(message["near"])
            elif isinstance(message.get("drawn"), int):
                drawn = message["drawn"]
                if paced and drawn in waiting:
                    watching.shown_after(time.monotonic() - waiting[drawn])
                for number in [one for one in waiting if one <= drawn]:
                    del waiting[number]
                age = message.get("age")
                if isinstance(age, (int, float)) and math.isfinite(age) and 0 <= age < 60_000:
                    told(age / 1000)
            watching.wake()

        # The whole picture is somebody's output, and other machines draw on cores of their own.
        paced = width > 0 and socket.client is not None and is_loopback(socket.client.host)
        answers: list[dict] = []
        #: When those pictures were sent that the page has not drawn yet.
        waiting: dict[int, float] = {}
        last = 0
        listening = asyncio.ensure_future(_listen(socket, heard))
        listening.add_done_callback(lambda _: watching.wake())
        try:
            async with watching:
                while not listening.done():
                    while answers:
                        await _send(socket, json.dumps(answers.pop(0)))
                    shot = watching.newest(last) if len(waiting) < IN_FLIGHT else None
                    if shot is None:
                        await watching.woken()
                        continue
                    last = shot.number
                    waiting[last] = time.monotonic()
                    await _send(socket, shot.message())
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            pass
        finally:
            await _end(socket, listening)


class _Watching:
    """A watcher of a feed for the server's thread. Raises UserError where too many watch."""

    def __init__(self, feed: Feed, width: int = 0, alpha: bool = False):
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        self._watcher: Watcher = feed.watch(self._wake_from_elsewhere, width, alpha)

    def _wake_from_elsewhere(self) -> None:
        # The server may have ended.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    def wake(self) -> None:
        self._event.set()

    async def woken(self) -> None:
        """Wait until there is something new, or a second is over."""
        with anyio.move_on_after(1.0):
            await self._event.wait()
        self._event.clear()

    def resize(self, width: int) -> None:
        self._watcher.resize(width)

    def shown_after(self, seconds: float) -> None:
        self._watcher.shown_after(seconds)

    def near(self, near: bool) -> None:
        self._watcher.near = near

    def newest(self, after: int) -> Shot | None:
        return self._watcher.newest(after)

    async def next(self, after: int) -> Shot:
        """The next shot, whenever it comes."""
        while (shot := self.newest(after)) is None:
            await self.woken()
        return shot

    async def __aenter__(self) -> _Watching:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._watcher.close()


async def _jpeg(make: Callable[[], bytes], keep: bool = False) -> Response:
    try:
        data = await run_in_threadpool(make)
    except UserError as error:
        return _json(404, {"error": str(error)})
    headers = {"cache-control": "private, max-age=3600"} if keep else None
    return Response(data, media_type="image/jpeg", headers=headers)


async def _send(socket: WebSocket, data: str | bytes) -> None:
    """Raises TimeoutError for who reads nothing."""
    with anyio.fail_after(PATIENCE):
        await (socket.send_text(data) if isinstance(data, str) else socket.send_bytes(data))


async def _listen(socket: WebSocket, heard: Callable[[dict], None]) -> None:
    """Hand over what a page says, until it goes. What is no JSON object ends the connection."""
    with suppress(WebSocketDisconnect, RuntimeError, ValueError, RecursionError, KeyError):
        while True:
            message = json.loads(await socket.receive_text())
            if not isinstance(message, dict):
                return
            heard(message)


async def _end(socket: WebSocket, listening: asyncio.Future) -> None:
    listening.cancel()
    with suppress(Exception):
        if socket.application_state != WebSocketState.DISCONNECTED:
            await socket.close()
