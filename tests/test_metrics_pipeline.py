"""What the whole pipeline draws, measured against a puppet's own exact change."""

from __future__ import annotations

import numpy as np
import pytest

from livepuppet.realtime.engines import load_engine

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def measured():
    from livepuppet.train.metrics.pipeline import pipeline_responses
    from livepuppet.train.metrics.responses import draw_probes

    torch.set_num_threads(1)
    # Three: a single puppet's mouth may be hard to read.
    probes = draw_probes(3, 7, 256, ("shift", "open"), "rich")
    rows = []
    table = pipeline_responses(
        probes, engine=load_engine("onnx", threads=1), shown=lambda *row: rows.append(row)
    )
    return table, rows


def test_a_head_that_moves_is_shown_to_move(measured):
    table, _ = measured
    assert table["shift"]["cross"] > 0.5
    assert table["shift"]["l1"] < table["shift"]["copy"]
    assert table["open"]["cross"] > 0.25


def test_the_sheet_holds_driver_truth_and_what_was_drawn(measured):
    from livepuppet.train.metrics.pipeline import pipeline_sheet

    _, rows = measured
    sheet = pipeline_sheet(rows, side=64)
    assert sheet.shape == (3 * 5 * 64, 2 * 64, 3) and sheet.dtype == np.uint8
    # What was drawn is another picture than the avatar.
    assert (sheet[4 * 64 : 5 * 64] != sheet[2 * 64 : 3 * 64]).any()


def test_errors_at_the_outline_are_told_from_those_of_the_background():
    from livepuppet.train.metrics.pipeline import _figures
    from livepuppet.train.people.evaluation import PeopleProbe

    source = np.full((64, 64, 3), 100, np.uint8)
    truth, drawn = source.copy(), source.copy()
    truth[16:48, 16:48] = 200
    drawn[16:48, 16:48] = 200
    drawn[:4, :4] = 255
    head = torch.zeros(1, 64, 64)
    head[:, 16:48, 16:48] = 1
    empty = 1 - head
    probe = PeopleProbe(*(None,) * 12, head=head, empty=empty)
    figures = _figures(source, truth, drawn, probe, 0)
    assert figures["outline"] == 0 and figures["outline copy"] > 0.05
    assert figures["background"] == pytest.approx(16 * 155 / 255 / (64 * 64 - 32 * 32), rel=1e-4)
    # A corner of background that got brighter is no part of the true change.
    assert figures["cross"] == pytest.approx(1)
