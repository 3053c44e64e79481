"""`livepuppet web`: a static site that moves a picture in the browser itself."""

from __future__ import annotations

from pathlib import Path

import click

from livepuppet.core.names import local_path


@click.command(short_help="Write a static site that moves a picture in the browser itself.")
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where to write it: a folder that is new or empty, or holds an earlier one.",
)
@click.option(
    "--avatar",
    "avatars",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PICTURE|FOLDER",
    help="A picture that the page offers; may be given several times. Visitors add their own on the page. [default: the bundled "
    "one]",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="A folder that 'livepuppet export' wrote.",
)
@click.option(
    "--runtime",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Take onnxruntime-web from here (node_modules/onnxruntime-web) instead of from npm.",
)
@click.option(
    "--serve",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Then serve it on this computer, to try it.",
)
def web(
    output: Path, avatars: tuple[Path, ...], model: Path | None, runtime: Path | None, serve: int | None
) -> None:
    """Write a static site that moves a picture in the browser itself: no server, no upload.

    Any host of files can serve the folder, also under a sub-path. What visitors show their camera stays on their computer.
    """
    from livepuppet.realtime.app.web.serve import open_server
    from livepuppet.realtime.app.web.site import write_site

    site = write_site(local_path(output, "the site"), avatars, model, runtime)
    for sentence in site.sentences:
        click.echo(sentence, err=True)
    click.echo(
        f"Wrote {site.files} files to {site.folder}: a visitor downloads {site.bytes / 1e6:.1f} MB, "
        f"{site.packed / 1e6:.1f} MB as gzip sends it. Put the folder on any host of files."
    )
    if serve is None:
        return
    with open_server(site.folder, serve) as server:
        click.echo(f"The page is at http://localhost:{server.server_address[1]}/ until you press Ctrl+C.")
        server.serve_forever()
