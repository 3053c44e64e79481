"""What /proc/cpuinfo says of processors of different kinds."""

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
