"""`livepuppet doctor`: what is here, what is wrong with it, and what to do."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from livepuppet.core.errors import UserError
from livepuppet.realtime.app.doctor import checks
from livepuppet.realtime.app.doctor.checks import Chapter, Finding

_WIDTH = 110


def _virtual_camera() -> Chapter:
    from livepuppet.realtime.app.doctor import cameras

    return cameras.virtual_camera()


def _cameras() -> Chapter:
    from livepuppet.realtime.app.doctor import cameras

    return cameras.cameras()


def _engines(quick: bool) -> Chapter:
    from livepuppet.realtime.app.doctor import engines

    return engines.engines(quick)


def _server(address: str) -> Chapter:
    from livepuppet.realtime.app.doctor import server

    return server.server(address)


def chapters(quick: bool, server: str | None = None) -> list[tuple[str, Callable[[], Chapter]]]:
    """Title and check of everything that is looked at, in order. What is imported is imported by
    the check itself.
    """
    elsewhere = [] if server is None else [("Server", lambda: _server(server))]
    return [
        ("Software", checks.software),
        ("OpenCV", checks.opencv),
        ("Recording", checks.recording),
        ("Machine", checks.machine),
        ("Cameras", _cameras),
        ("Virtual camera", _virtual_camera),
        ("Screen", checks.screen),
        ("Settings", checks.settings_file),
        *elsewhere,
        ("Engines", lambda: _engines(quick)),
    ]


def chapter_lines(chapter: Chapter) -> list[str]:
    """The info, aligned."""
    width = max((len(name) for name, _ in chapter.info), default=0)
    lines = [chapter.title]
    for name, value in chapter.info:
        lines += textwrap.wrap(
            f"{name:<{width}}  {value}",
            _WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * (width + 4),
            drop_whitespace=True,
            break_on_hyphens=False,
        )
    return lines


def verdict_lines(findings: Sequence[Finding]) -> list[str]:
    """The findings, what is fine first and what is wrong last, where the eye is when the command is
    done.
    """
    lines = ["Verdict"]
    for verdict in ("OK", "WARN", "FAIL"):
        for finding in findings:
            if finding.verdict != verdict:
                continue
            text = finding.text.rstrip(".") + "."
            lines += textwrap.wrap(
                f"{verdict:<4}  {text}",
                _WIDTH,
                initial_indent="  ",
                subsequent_indent=" " * 8,
                break_on_hyphens=False,
            )
            if finding.remedy:
                # On one line, however long: there are commands in it to copy.
                lines.append(" " * 8 + "-> " + finding.remedy)
    counts = {
        verdict: sum(finding.verdict == verdict for finding in findings) for verdict in ("FAIL", "WARN")
    }
    if not any(counts.values()):
        lines += ["", "Nothing is wrong."]
    else:
        said = [f"{count} {verdict}" for verdict, count in counts.items() if count]
        lines += ["", f"{' and '.join(said)}. FAIL is surely wrong; WARN is in the way of some."]
    return lines


@click.command(short_help="Look for what is wrong here, and write a report to paste.")
@click.option("--quick", is_flag=True, help="Do not measure the model's speed.")
@click.option(
    "--server",
    metavar="https://...",
    envvar="LIVEPUPPET_SERVER",
    help="Look, too, whether the machine of this address would render: see livepuppet run --server.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what is printed there, too, to paste into a question.",
)
def doctor(quick: bool, server: str | None, report: Path | None) -> None:
    """Print versions, cameras, the virtual camera's driver and the model's speed, and say what is
    wrong.

    Names of users and computers are left out, so that it can be shown to others. Ends with status 1
    where something FAILs.
    """
    written: list[str] = []

    def notify(lines: Sequence[str]) -> None:
        for line in lines:
            line = checks.redacted(line)
            written.append(line)
            click.echo(line)
        sys.stdout.flush()

    findings: list[Finding] = []
    for title, check in chapters(quick, server):
        chapter = checks.examine(title, check)
        # One package that is broken stops several checks.
        findings += [finding for finding in chapter.findings if finding not in findings]
        if chapter.info:
            notify([*chapter_lines(chapter), ""])
    notify(verdict_lines(findings))
    if report is not None:
        try:
            report.write_text("\n".join(written) + "\n", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UserError(
                f"The report cannot be written to {report} ({error.strerror}): choose another --report."
            ) from error
        click.echo(f"Written to {report}.", err=True)
    if any(finding.verdict == "FAIL" for finding in findings):
        sys.exit(1)
