"""What /proc/cpuinfo says of processors of different kinds."""

import os

import pytest

from livepuppet.core import processor

X86 = "processor\t: 0\nmodel name\t: Fast: Chip 9000\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nmodel name\t: Other\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: asimd bf16\n"


def test_the_first_processor_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(X86)
    assert processor.processor_name() == "Fast: Chip 9000"
    assert processor.processor_flags() == {"fpu", "avx2", "avx512_bf16"}
    (tmp_path / "cpuinfo").write_text(ARM)
    assert processor.processor_flags() == {"asimd", "bf16"} and processor.processor_name()


def test_a_system_without_the_file_still_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "nowhere")
    assert processor.processor_name() and not processor.processor_flags()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
def test_idle_time_is_that_of_the_cores_that_may_be_used(tmp_path, monkeypatch):
    stat, ticks = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    stat.write_text(
        "cpu  1 2 3 4 5 6 7 8 0 0\n"
        + "".join(f"cpu{core} 9 {core} 9 {ticks} 20 9 9 9 0 0\n" for core in range(12))
        + "intr 5\n"
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 10})
    assert processor.idle_seconds(stat) == pytest.approx(2 + (1 + 10 + 20 + 20) / ticks)
    assert processor.idle_seconds(tmp_path / "none") is None
    stat.write_text("cpu1 9\n")
    assert processor.idle_seconds(stat) is None
