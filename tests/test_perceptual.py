"""train/losses/perceptual.py."""

import os
import pickle

import pytest
import torch
from torch import nn

from livepuppet.train.losses import perceptual
from livepuppet.train.losses.perceptual import (
    VGG19,
    FeatureLoss,
    PerceptualError,
    PyramidLoss,
    cached_vgg,
    choose,
    read_vgg,
)


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """torch's cache is an empty folder, and nothing reaches for the network."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))

    def forbidden(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(torch.hub, "download_url_to_file", forbidden)
    return folder


def torchvision_layout(divisor: int = 1) -> nn.Sequential:
    """The layers of torchvision's `vgg19().features`, written down from its published description."""
    layers, before = [], 3
    for width in [64, 64, 0, 128, 128, 0, *[256] * 4, 0, *[512] * 4, 0, *[512] * 4, 0]:
        if width:
            layers += [nn.Conv2d(before, width // divisor, 3, padding=1), nn.ReLU()]
            before = width // divisor
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def fake_file(path, change=None):
    """A file of the right shapes that takes no space: convolution k holds nothing but k."""
    state = {}
    with torch.device("meta"):
        reference = torchvision_layout()
    for name, value in reference.state_dict().items():
        state[f"features.{name}"] = torch.tensor(float(name.split(".")[0]) / 1e4).expand(value.shape)
    state["classifier.0.weight"] = torch.tensor(0.0).expand(4096, 25088)
    state.update(change or {})
    torch.save(state, path)
    return path


def test_features_are_torchvisions():
    """relu1_1, 2_1, 3_1, 4_1, 5_1 are the outputs of torchvision's layers 1, 6, 11, 20, 29."""
    torch.manual_seed(0)
    reference, network = torchvision_layout(16), VGG19(16)
    for layer in reference:
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight, 2**0.5)
    weights = {f"features.{name}": value for name, value in reference.state_dict().items()}
    missing = network.load_state_dict(weights, strict=False)
    assert not missing.missing_keys
    assert all(name.startswith(("features.30", "features.32", "features.34")) for name in missing[1])

    image = torch.rand(2, 3, 64, 48)
    x = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    wanted = []
    for place, layer in enumerate(reference):
        x = layer(x)
        if place in (1, 6, 11, 20, 29):
            wanted.append(x)
    found = network(image)
    assert len(found) == 5
    for a, b in zip(found, wanted, strict=True):
        assert a.std() > 1e-3
        torch.testing.assert_close(a, b)


def test_small_images_have_fewer_features():
    network = VGG19.random(0, 16)
    assert [len(network(torch.rand(1, 3, side, side))) for side in (64, 16, 8, 2, 1)] == [5, 5, 4, 2, 1]


def test_a_file_is_read_as_data(tmp_path):
    network = read_vgg(fake_file(tmp_path / "vgg.pth"))
    for place in ("0", "2", "5", "7", "10", "16", "19", "25", "28"):
        assert network.features[place].weight.unique().item() == pytest.approx(float(place) / 1e4)
    assert not any(parameter.requires_grad for parameter in network.parameters())


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_bad_files_end_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"features.0.weight": _Evil()}, protocol=2))
    torch.save([1, 2], tmp_path / "list.pth")
    fake_file(tmp_path / "shape.pth", {"features.5.weight": torch.zeros(128, 64, 1, 1)})
    fake_file(tmp_path / "nan.pth", {"features.2.bias": torch.full((64,), torch.nan)})
    whole = fake_file(tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    for name, sentence in {
        "absent": "There is no file",
        "text": "cannot be read as weights",
        "empty": "cannot be read as weights",
        "evil": "cannot be read as weights",
        "cut": "cannot be read as weights",
        "list": "holds no table of weights",
        "shape": r"'features.5.weight' should be \(128, 64, 3, 3\) and is \(128, 64, 1, 1\)",
        "nan": "not finite in 'features.2.bias'",
    }.items():
        with pytest.raises(PerceptualError, match=sentence) as caught:
            choose(tmp_path / f"{name}.pth")
        assert "\n" not in str(caught.value)
        assert "vgg19-dcbf9e9d.pth" in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_without_weights_the_substitute_is_named():
    assert cached_vgg() is None
    loss = choose()
    assert isinstance(loss, PyramidLoss)
    assert loss.description.startswith("none of VGG's weights; pyramid of L1")


def test_the_cache_is_found_and_the_word_fetches(hub, monkeypatch):
    (hub / "checkpoints").mkdir(parents=True)
    asked = []

    def fetch(url, path, hash_prefix):
        asked.append((url, hash_prefix))
        fake_file(path)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    assert isinstance(choose(), PyramidLoss)
    assert not asked
    assert isinstance(choose(download=True), FeatureLoss)
    assert asked == [("https://download.pytorch.org/models/vgg19-dcbf9e9d.pth", "dcbf9e9d")]
    assert "VGG-19" in choose().description
    assert isinstance(choose(download=True), FeatureLoss)
    assert len(asked) == 1


def test_no_network_is_a_sentence(monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(PerceptualError, match=r"no route to host.*--vgg, or train without it"):
        choose(download=True)


@pytest.mark.parametrize("loss", [FeatureLoss(VGG19.random(0, 16), "random"), PyramidLoss()])
def test_losses(loss):
    """Zero for equal images, larger for worse ones, and only the prediction is taught."""
    torch.manual_seed(1)
    target = torch.rand(2, 3, 64, 64)
    noise = torch.randn(2, 3, 64, 64)

    def value(amount, levels=4):
        return sum(loss((target + amount * noise).clamp(0, 1), target, levels).values()).item()

    assert value(0.0) == pytest.approx(0, abs=1e-5)
    assert 0 < value(0.02) < value(0.1) < value(0.5)
    assert value(0.1, 1) != pytest.approx(value(0.1, 4), rel=1e-3)

    prediction, wanted = target.clone().add(0.1).requires_grad_(), target.clone().requires_grad_()
    sum(loss(prediction, wanted).values()).backward()
    assert prediction.grad.abs().sum() > 0
    assert not [p for p in loss.parameters() if p.grad is not None]


def test_the_pyramid_sums_over_sizes():
    """A level more adds the same loss of images half as large, blurred as the detector's are."""
    loss = FeatureLoss(VGG19.random(0, 16), "random")
    a, b = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    downsample = perceptual.AntiAlias(3, 2)
    both, full = loss(a, b, 2)["perceptual"], loss(a, b, 1)["perceptual"]
    half = loss(downsample(a), downsample(b), 1)["perceptual"]
    torch.testing.assert_close(both, full + half)
