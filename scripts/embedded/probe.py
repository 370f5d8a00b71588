"""Measure where every head looks, on calibration scenes: `python scripts/embedded/probe.py FOLDER`.

Plain transformers with eager attention, and none of the engine's code: an independent
check that localization heads have emerged, while the training still runs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
from vocabulary import SYSTEM

from vg_engine.plugins.datasets.exam import Sample, calibration
from vg_engine.plugins.datasets.scenes import KINDS

FORMS = {
    "bare": f"{SYSTEM} <image>\n{{}}.",
    "chat": f"{SYSTEM} USER: <image>\n{{}}. ASSISTANT:",
    "where": f"{SYSTEM} USER: <image>\nwhere is {{}}. ASSISTANT:",
}


def smooth(maps: np.ndarray) -> np.ndarray:
    """The paper's smoothing (sigma 1, kernel 7) of every map in (H, rows, cols)."""
    return np.stack([cv2.GaussianBlur(m, (7, 7), 1.0) for m in maps])


def hit(heat: np.ndarray, sample: Sample) -> bool:
    """Check whether the peak of a map on the token grid lies inside the object's mask."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    height, width = sample.mask.shape
    y = int((row + 0.5) * height / heat.shape[0])
    x = int((column + 0.5) * width / heat.shape[1])
    return bool(sample.mask[y, x])


@torch.inference_mode()
def rows_of(
    model: Any, processor: Any, samples: list[Sample], form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Attention at the expression's full stop and at the prompt's end.

    Returns two arrays (samples, layers * heads, rows, cols).
    """
    stop = processor.tokenizer.convert_tokens_to_ids(".")
    result: list[list[np.ndarray]] = [[], []]
    for start in range(0, len(samples), 20):
        part = samples[start : start + 20]
        inputs = processor(
            images=[Image.fromarray(s.image) for s in part],
            text=[FORMS[form].format(s.text) for s in part],
            return_tensors="pt",
            padding=True,
        )
        attentions = model(**inputs, output_attentions=True).attentions
        stacked = torch.cat(attentions, dim=1)  # (batch, layers * heads, L, L)
        for index, ids in enumerate(inputs["input_ids"]):
            places = (ids == model.config.image_token_id).nonzero().flatten()
            grid = round(len(places) ** 0.5)
            last = int((ids == stop).nonzero().flatten()[-1])
            for which, query in enumerate((last, len(ids) - 1)):
                row = stacked[index, :, query][:, places]
                result[which].append(row.reshape(-1, grid, grid).float().numpy())
    return np.stack(result[0]), np.stack(result[1])


def report(rows: np.ndarray, samples: list[Sample], heads: int) -> dict[str, Any]:
    """Pointing per head and for sums of heads; mean share of the picture per head."""
    share = rows.sum(axis=(2, 3)).mean(axis=0)
    smoothed = np.stack([smooth(maps) for maps in rows])
    hits = np.array(
        [[hit(heat, s) for heat in maps] for maps, s in zip(smoothed, samples, strict=True)]
    )
    pointing = hits.mean(axis=0)
    order = np.argsort(-pointing)
    names = [f"L{i // heads}H{i % heads}" for i in range(rows.shape[1])]
    sums: dict[str, Any] = {}
    later = np.arange(2 * heads, rows.shape[1])
    for label, chosen in (
        ("top1", order[:1]),
        ("top3", order[:3]),
        ("top5", order[:5]),
        ("all", np.arange(rows.shape[1])),
        ("all from layer 2", later),
    ):
        right = np.array(
            [hit(maps[chosen].sum(axis=0), s) for maps, s in zip(smoothed, samples, strict=True)]
        )
        by_kind = {k: round(float(right[[s.kind == k for s in samples]].mean()), 3) for k in KINDS}
        sums[label] = {"pointing": round(float(right.mean()), 3), **by_kind}
    return {
        "best": [f"{names[i]} {pointing[i]:.2f} (image {share[i]:.2f})" for i in order[:8]],
        "sums": sums,
        "share of the picture per head": [round(float(x), 2) for x in share],
        "pointing per head": [round(float(x), 2) for x in pointing],
    }


def main() -> None:
    """Print a report per prompt form and query row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--json", type=Path, help="also write everything here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = LlavaForConditionalGeneration.from_pretrained(
        args.folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    processor = AutoProcessor.from_pretrained(args.folder)
    samples = list(calibration(args.samples))
    heads = model.config.text_config.num_attention_heads
    everything = {}
    for form in FORMS:
        stop, last = rows_of(model, processor, samples, form)
        for name, rows in (("expression_last", stop), ("prompt_last", last)):
            if form == "bare" and name == "prompt_last":
                continue  # the same row
            found = everything[f"{form}/{name}"] = report(rows, samples, heads)
            print(f"== {form}, {name}: {', '.join(found['best'])}")
            for label, scores in found["sums"].items():
                print(f"   {label}: {json.dumps(scores)}")
    if args.json:
        args.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
