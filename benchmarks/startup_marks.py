"""Be `livepuppet`, and write down when what was done: arguments FILE.json and those of
`livepuppet`.

The command line's own code runs, in its own order; only functions at the borders of its phases are
wrapped. Times are of `time.perf_counter`, which on Linux and macOS is one clock for all processes.
"""

import time

MARKS = {"python": time.perf_counter()}


def mark_when_done(owner, name: str, mark: str) -> None:
    """Have `owner.name` note the time when it first returns."""
    function = getattr(owner, name)

    def noting(*arguments, **keywords):
        result = function(*arguments, **keywords)
        MARKS.setdefault(mark, time.perf_counter())
        return result

    setattr(owner, name, noting)


def main() -> None:
    """Run the command in `sys.argv`, and write the marks when it has ended."""
    import json
    import sys
    from pathlib import Path

    path, arguments = Path(sys.argv[1]), sys.argv[2:]
    from livepuppet.realtime import animator
    from livepuppet.realtime.app import cli, loop, session
    from livepuppet.realtime.app.commands import run
    from livepuppet.realtime.engines import loading
    from livepuppet.realtime.outputs.fanout import Fanout

    MARKS["imports"] = time.perf_counter()
    mark_when_done(loading, "_make", "model")
    mark_when_done(run, "load_engine", "gate")
    mark_when_done(session.Session, "_encode", "avatar")
    mark_when_done(animator.Animator, "warm_up", "warm-up")
    mark_when_done(session.Session, "__init__", "session")
    mark_when_done(Fanout, "submit", "first picture")
    mark_when_done(animator.Animator, "_begin", "face")
    mark_when_done(loop.LiveStats, "add", "first animated")
    try:
        cli.main(arguments)
    finally:
        path.write_text(json.dumps(MARKS))


if __name__ == "__main__":
    main()
