"""The files of the page, and the pictures that it offers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from livepuppet.realtime.app.remote_page.session import Offered
from livepuppet.realtime.app.studio.access import CONTENT_POLICY

_APP = Path(__file__).parents[1]

#: The page's own files, and those that it has in common with the studio's and with the site's.
OWN, STUDIO, SITE = Path(__file__).parent / "static", _APP / "studio" / "static", _APP / "web" / "static"
FILES: dict[str, Path] = {
    **{path.name: path for path in sorted(OWN.iterdir())},
    **{
        name: STUDIO / name
        for name in ("studio.css", "dom.js", "icon.svg", "numbers.js", "slider.js", "theme.js")
    },
    **{name: SITE / name for name in ("web.css", "keeping.js", "source.js")},
}

#: Of every file: the camera may be used, and pictures that were made in the page be shown.
HEADERS = {
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
    "content-security-policy": CONTENT_POLICY.replace("img-src 'self'", "img-src 'self' blob:"),
}


def page_routes(offered: Sequence[Offered]) -> list[Route]:
    """What is served beside the websocket. Only `/offered` needs a token: the page's files hold nothing."""

    async def index(_: Request) -> Response:
        return FileResponse(FILES["index.html"], headers=HEADERS)

    async def file(request: Request) -> Response:
        path = FILES.get(request.path_params["name"])
        return Response(status_code=404) if path is None else FileResponse(path, headers=HEADERS)

    async def thumbnail(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(offered):
            return Response(status_code=404)
        return Response(offered[number].thumbnail, media_type="image/jpeg")

    return [
        Route("/", index),
        Route("/static/{name}", file),
        Route("/offered/{number:int}.jpg", thumbnail),
    ]
