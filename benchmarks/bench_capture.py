"""Cost of capture beside a plain forward pass: `python benchmarks/bench_capture.py`.

A random LLaVA-1.5 of 16 layers and hidden size 512 with 576 image tokens, float32, on the CPU. The
plain forward is the same model over sdpa, language model and tower, without its output head.
Medians of interleaved rounds; only the ratios are worth quoting.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from ratios import interleaved, report

from vg_engine.core.contract.inputs import AttentionRequest, Expression
from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.testing.tiny import tiny_llava

LAYERS, HEADS = 16, 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        tiny_llava(
            Path(folder), image_size=336, patch_size=14, hidden=512, layers=LAYERS, heads=HEADS
        )
        adapter = LlavaAdapter()
        model = adapter.vg_load_model(ModelSpec(folder, device="cpu"))
    picture = Picture(np.random.default_rng(0).integers(0, 256, (336, 336, 3), np.uint8))
    inputs = adapter.vg_prepare_inputs(model, [picture], [Expression(0, "the red cup")], Prompt())
    tokens = inputs.tensors["input_ids"].shape[1]
    every = AttentionRequest(tuple(Head(i, j) for i in range(LAYERS) for j in range(HEADS)))
    three = AttentionRequest((Head(LAYERS - 1, 0), Head(LAYERS - 2, 1), Head(LAYERS - 3, 2)))
    middle = AttentionRequest((Head(LAYERS // 2 - 1, 0),))

    def plain() -> object:
        with torch.no_grad():
            return model.module.base_model(**inputs.tensors, use_cache=False)

    print(f"LLaVA, {LAYERS} layers x {HEADS} heads, {tokens} tokens, {args.threads} thread(s)")
    seconds = interleaved(
        {
            "plain sdpa forward": plain,
            "capture, 3 heads, all layers run": lambda: adapter.vg_extract_attention(
                model, inputs, three
            ),
            "capture, all heads of all layers": lambda: adapter.vg_extract_attention(
                model, inputs, every
            ),
            "capture, left after half of the layers": lambda: adapter.vg_extract_attention(
                model, inputs, middle
            ),
        },
        rounds=args.rounds,
    )
    report(seconds, "plain sdpa forward")


if __name__ == "__main__":
    main()
