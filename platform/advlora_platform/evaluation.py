"""`advlora evaluate`: one model, one data set, one protocol, one record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from advlora.adapters import load_trained
from advlora.config import DataConfig, EvaluationProtocol, ModelConfig, parse, read_yaml
from advlora.data import check_data, load_manifest
from advlora.errors import ConfigError, UserError
from advlora.evaluator import evaluate
from advlora.identity import fingerprint
from advlora.models import VisionLanguageModel, embedded_models
from advlora.tasks.retrieval import evaluate_retrieval
from advlora.workbench import Workbench
from advlora_platform.export import provenance
from advlora_platform.study.library import load_any, shipped, shipped_protocols


def evaluate_model(model: str, data: str, split: str, protocol: str) -> dict[str, Any]:
    """Measures a model and returns the record: metrics, protocol, data, versions.

    Raises:
        UserError: If the model, the data set or the protocol is unknown or unreadable.
    """
    examination = read_protocol(protocol)
    config = DataConfig(name=data)
    if problems := check_data(config):
        raise UserError(problems)
    bench = Workbench()
    network, base = load_model_reference(model, bench)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    samples = getattr(examination.samples, split)
    images = bench.split(config, split, network.image_size, samples)
    begin = time.perf_counter()
    where: dict[str, Any] = {"split": split, "curve": True, "device": device}
    if load_manifest(config).task == "retrieval":
        metrics = evaluate_retrieval(network.to(device), images, examination, **where)
    else:
        classes = bench.class_features(base, config).to(device)
        metrics = evaluate(network.to(device), classes, images, examination, **where)
    return {
        "model": model,
        "data": {"name": data, "split": split, "samples": len(images.labels), "hash": load_manifest(config).hash},
        "protocol": examination.model_dump(mode="json"),
        "protocol_hash": fingerprint(examination.model_dump(mode="json")),
        "protocol_text": examination.describe(),
        "metrics": metrics,
        "seconds": time.perf_counter() - begin,
        "provenance": provenance(),
    }


def read_protocol(reference: str) -> EvaluationProtocol:
    """Reads a shipped protocol, the protocol of a study, or a YAML file that holds a protocol.

    Raises:
        ConfigError: If there is neither.
    """
    if reference in shipped_protocols():
        return parse(EvaluationProtocol, read_yaml(shipped_protocols()[reference]))
    if reference in shipped("ablation") or reference in shipped("sweep"):
        return load_any(reference).protocol
    content = read_yaml(Path(reference))
    if "kind" in content:
        return load_any(reference).protocol
    return parse(EvaluationProtocol, content)


def load_model_reference(reference: str, bench: Workbench) -> tuple[VisionLanguageModel, ModelConfig]:
    """Loads a model by folder or name.

    Returns:
        The model, and the pretrained model whose text tower belongs to it.
    """
    folder = Path(reference)
    if (folder / "trained.json").is_file():
        return load_trained(folder)
    if (folder / "open_clip_config.json").is_file():
        base = ModelConfig(source="open_clip", name=f"local-dir:{folder}")
    elif (folder / "config.json").is_file():
        base = ModelConfig(source="transformers", name=f"local-dir:{folder}")
    elif folder.is_dir():
        raise ConfigError(f"folder '{reference}' holds no trained.json, open_clip_config.json or config.json")
    elif reference in embedded_models():
        base = ModelConfig(source="embedded", name=reference)
    else:
        name, _, tag = reference.partition(":")
        base = ModelConfig(source="open_clip", name=name, pretrained=tag or None)
    return bench.model(base), base
