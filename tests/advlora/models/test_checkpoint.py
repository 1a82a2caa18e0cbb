"""Files of weights as training scripts of robust CLIP models write them."""

from __future__ import annotations

import argparse
import copy
from collections import OrderedDict
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from advlora.config import ModelConfig
from advlora.errors import ModelError
from advlora.models import load_model, load_vision_weights
from advlora.models.checkpoint import check_whole, read_weights
from tests.advlora.models.conftest import TINY

pytestmark = pytest.mark.unit


@pytest.fixture
def base(folder: Path) -> ModelConfig:
    return ModelConfig(source="open_clip", name=f"local-dir:{folder}")


@pytest.fixture
def tuned(stock: nn.Module) -> dict[str, Tensor]:
    """The state of a vision tower that was fine-tuned a little."""
    random = torch.Generator().manual_seed(5)
    state = stock.visual.state_dict()
    return {name: value + 0.02 * torch.randn(value.shape, generator=random) for name, value in state.items()}


def made(**vision) -> nn.Module:
    """Another tiny model, whose vision tower has other settings."""
    with torch.random.fork_rng():
        torch.manual_seed(9)
        return open_clip.CLIP(**{**TINY, "vision_cfg": {**TINY["vision_cfg"], **vision}})


def tecoa(state: dict[str, Tensor], prompter: dict[str, Tensor]) -> dict:
    """What TeCoA's training script saves."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
    return {
        "epoch": 10,
        "state_dict": OrderedDict(prompter),
        "best_acc1": torch.tensor(40.0),
        "optimizer": optimiser.state_dict(),
        "vision_encoder_state_dict": OrderedDict(state),
    }


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "stored",
    [
        lambda state: state,
        lambda state: tecoa(state, {}),
        lambda state: tecoa(state, {"pad_up": torch.zeros(1, 3, 2, 16)}),
        lambda state: tecoa(prefixed("module.", state), {}),
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": prefixed("module.visual.", state), "epoch": 3},
        lambda state: {"model_state_dict": prefixed("_orig_mod.model.", state)},
        lambda state: prefixed("visual.", state),
        lambda state: {name: value.half() for name, value in state.items()},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_vision_tower_is_found_however_it_is_wrapped(stored, zipped, base, tuned, stock, tmp_path) -> None:
    torch.save(stored(tuned), tmp_path / "robust.pt", _use_new_zipfile_serialization=zipped)
    model = load_vision_weights(base, tmp_path / "robust.pt")
    for name, value in model.vision.state_dict().items():
        torch.testing.assert_close(value, tuned[name], rtol=0, atol=5e-3)
    assert torch.equal(model.encode_texts(["a boot"]), load_model(base).encode_texts(["a boot"]))


def test_a_file_of_safetensors_is_read_too(base, tuned, tmp_path) -> None:
    save_file(tuned, tmp_path / "robust.safetensors")
    state = load_vision_weights(base, tmp_path / "robust.safetensors").vision.state_dict()
    assert all(torch.equal(state[name], value) for name, value in tuned.items())


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (lambda: made().state_dict(), "it holds a whole model, text tower included"),
        (lambda: made(image_size=24).visual.state_dict(), "trained on images of 24 x 24 pixels, and '"),
        (lambda: made(layers=1).visual.state_dict(), "it lacks 12 tensors, such as 'transformer.resblocks.1.attn"),
        (lambda: made(layers=3).visual.state_dict(), "it also holds 12 tensors, such as 'transformer.resblocks.2"),
        (lambda: made(mlp_ratio=2).visual.state_dict(), "mlp.c_fc.weight' has the shape 64 x 32, not 128 x 32"),
        (lambda: made().visual.state_dict(), "the two have nothing in common (the cosine of their weights is "),
        (dict, "it lacks"),
    ],
)
def test_a_tower_that_is_not_of_its_base_is_told(state, sentence, base, tmp_path) -> None:
    torch.save(state(), tmp_path / "other.pt")
    with pytest.raises(ModelError) as raised:
        load_vision_weights(base, tmp_path / "other.pt")
    (problem,) = raised.value.problems
    assert problem.startswith(f"file '{tmp_path / 'other.pt'}' does not hold the vision tower of")
    assert sentence in problem


def scripted(file: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (scripted, "it is a TorchScript archive, which holds code"),
        (lambda file: torch.save({"args": argparse.Namespace(lr=1), "state_dict": {}}, file), "(argparse.Namespace)"),
        (lambda file: torch.save([torch.zeros(2)], file), "it holds list, not tensors by name"),
        (lambda file: file.write_text("no weights"), "cannot be read: "),
        (lambda file: file.write_bytes(b""), "cannot be read: "),
    ],
)
def test_what_is_not_a_file_of_tensors_is_one_sentence(write, sentence, tmp_path) -> None:
    write(tmp_path / "x.pt")
    with pytest.raises(ModelError) as raised:
        read_weights(tmp_path / "x.pt")
    (problem,) = raised.value.problems
    assert problem.startswith(f"file '{tmp_path / 'x.pt'}' cannot be read: ")
    assert sentence in problem
    assert "\n" not in problem


def settings(image_size: int = 16, length: int = 12) -> dict:
    changed = copy.deepcopy(TINY)
    changed["vision_cfg"]["image_size"], changed["text_cfg"]["context_length"] = image_size, length
    return changed


def test_sizes_that_open_clip_would_stretch_silently_are_told(stock, tmp_path) -> None:
    file = tmp_path / "whole.pt"
    torch.save({"state_dict": prefixed("module.", stock.state_dict())}, file)
    check_whole(file, "tiny", settings())
    check_whole(file, "tiny", settings(image_size=18))  # as many patches of 8 pixels
    with pytest.raises(ModelError, match="trained on images of 16 x 16 pixels, but model 'tiny' takes 24 x 24"):
        check_whole(file, "tiny", settings(image_size=24))
    with pytest.raises(ModelError, match="trained on captions of 12 tokens, but model 'tiny' takes 77"):
        check_whole(file, "tiny", settings(length=77))


def test_a_vision_tower_alone_is_not_taken_for_a_whole_model(stock, tmp_path) -> None:
    for content in (stock.visual.state_dict(), tecoa(stock.visual.state_dict(), {})):
        torch.save(content, tmp_path / "tower.pt")
        with pytest.raises(ModelError, match="holds a vision tower alone, but model 'tiny' needs its text tower too"):
            check_whole(tmp_path / "tower.pt", "tiny", settings())
