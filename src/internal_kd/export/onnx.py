"""A run as ONNX: the graph in fp32, the same with 8-bit weights, and what both answer.

torch's older exporter, over TorchScript, is used: ONNX Runtime's quantiser refuses the newer one's graphs (its shape
inference fails at torch 2.13). What tracing may have fixed in a graph is found when all dev examples, of every length,
are compared.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from internal_kd.export.model_folder import Caller
from internal_kd.learners.small_networks import TAKES, SmallNetwork

PACKAGES = ("onnx", "onnxruntime")
EXTRA = "pip install '.[export]'"
FP32, INT8 = "model.onnx", "model-int8.onnx"
# Share of the largest logit by which ONNX Runtime may differ from torch, both in fp32.
TOLERANCE = 1e-3
# Of like length; int8 logits depend on it.
BATCH = 32


def missing_packages() -> tuple[str, ...]:
    """Return the packages of the extra ``export`` that are not installed."""
    return tuple(name for name in PACKAGES if find_spec(name) is None)


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX graph that is ready to answer, on so many threads."""

    session: Any

    def answer(self, batch: Mapping[str, Tensor]) -> np.ndarray:
        """Return the logits of a batch, (B, C) or (B, n, C), fp32; token types are 0 if a batch of ids has none."""
        arrays = {name: tensor.numpy() for name, tensor in batch.items()}
        if "input_ids" in arrays:
            arrays.setdefault("token_type_ids", np.zeros_like(arrays["input_ids"]))
        return self.session.run(["logits"], {given.name: arrays[given.name] for given in self.session.get_inputs()})[0]

    def caller(self) -> Caller:
        """Return how it is called for predictions.

        Activations are quantised with one scale per batch, so int8 logits depend a little on the batch.
        """
        return Caller(lambda batch: torch.from_numpy(self.answer(batch)))


def open_onnx(path: Path, *, threads: int) -> OnnxModel:
    """Open a graph with ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return OnnxModel(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))


def write_onnx(model: PreTrainedModel, folder: Path, *, uses_types: bool) -> None:
    """Write ``model.onnx`` and ``model-int8.onnx``; batch and length stay free in both.

    The second has the weights of matrix products and embeddings as int8 and quantises activations as they come
    (dynamic quantisation of ONNX Runtime). The plainest graph is that of eager attention.
    """

    class Logits(torch.nn.Module):
        """The classifier with plain tensors for inputs and output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            return self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits

    ids = torch.arange(2 * 7).reshape(2, 7) % model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    given = {"input_ids": ids, "attention_mask": mask}
    given |= {"token_type_ids": torch.zeros_like(ids)} if uses_types else {}
    of_tokens = type(model).__name__.endswith("ForTokenClassification")
    _write(Logits().eval(), given, folder, by_token=[*given, *(["logits"] if of_tokens else [])])


def write_small_onnx(network: SmallNetwork, folder: Path) -> None:
    """Write the same of a perceptron, a convolutional network or a soft tree; convolutions stay in fp32."""
    form, size = network.inputs.form, (2, *network.inputs.size)
    example = {
        "pixels": torch.zeros(size, dtype=torch.uint8), "tokens": torch.ones(2, 7, dtype=torch.int64)
    }.get(form, torch.zeros(size))  # fmt: skip
    given = {name: example.clone() for name in TAKES[form]}
    _write(network.module, given, folder, by_token=[*given] if form == "tokens" else [], only=["MatMul", "Gemm"])


def _write(
    module: nn.Module, given: dict[str, Tensor], folder: Path, *, by_token: Sequence[str], only: list[str] | None = None
) -> None:
    """Write both graphs of a module; ``by_token`` have an axis of tokens, ``only`` these operations become int8."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    free = {name: {0: "batch", **({1: "tokens"} if name in by_token else {})} for name in (*given, "logits")}
    folder.mkdir(parents=True, exist_ok=True)
    with _quiet():
        torch.onnx.export(
            module, tuple(given.values()), folder / FP32, input_names=list(given), output_names=["logits"],
            dynamic_axes=free, dynamo=False,
        )  # fmt: skip
        quantize_dynamic(folder / FP32, folder / INT8, weight_type=QuantType.QInt8, op_types_to_quantize=only)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporters print on their way: nothing that a user can act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
