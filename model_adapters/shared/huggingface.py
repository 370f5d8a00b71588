"""The base adapter of all Hugging Face models: loading, prompts, capture, early exit.

A family subclasses `HuggingFaceAdapter` and states its differences: the model types, the processor
class, and the layout of the picture on grids (`grids`). Everything else is here. Each step in which
some family differs is a method of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from transformers import AutoModelForImageTextToText, PreTrainedModel

from vg_engine.core.contract.inputs import (
    AttentionRequest,
    AttentionRows,
    Expression,
    PreparedInputs,
    Query,
)
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.errors import InputError, ModelError, UnsupportedModelError, nearest
from vg_engine.core.geometry import Frame, View
from vg_engine.model_adapters.shared import capture, loading, positions, processors, prompts
from vg_engine.model_adapters.shared.grids import Grid, tiles, views_of
from vg_engine.model_adapters.shared.loaded import parts_of, prepare_model
from vg_engine.model_adapters.shared.processor_errors import refused_pictures, running

# The names that a family's file needs, in one place.
__all__ = ["VICUNA", "Adapted", "Grid", "HuggingFaceAdapter", "Options", "Tensors", "tiles"]

Adapted = tuple[Any, tuple[str, ...]]  # a processor, and notes for users
Options = Mapping[str, Any]
Tensors = Mapping[str, torch.Tensor]

_TOWERS = ("vision_tower", "vision_model", "visual", "image_tower", "vision_encoder")

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)


class HuggingFaceAdapter:
    """Base of the adapters for models that transformers knows.

    Class attributes, for a family to set:
        name: the name that `--adapter` takes.
        model_types: values of a config's `model_type`.
        processor_class: transformers' processor, built without its video part.
        layout: how a picture becomes cells, in a few words, for the list of models.
        system, bare: the bare prompt form; {system}, {image} and {text} stand for its parts.
        placeholder: the text for a picture in a prompt, if it is not the processor's `image_token`.
        nested: whether the processor wants a list of pictures per prompt.
        image_backend: `pil`, or `torchvision` where transformers has no other image processor.
        answer: the beginning of the model's answers, for the row `answer_first`; empty = not known.
        blends: whether the model itself blends neighbouring cells, after its tower's attention.
        processor_call: further keyword arguments of the processor's call; see `call_options`.
        option_names: the allowed keys of `ModelSpec.options`.
    """

    name: ClassVar[str] = "huggingface"
    model_types: ClassVar[tuple[str, ...]] = ()
    processor_class: ClassVar[Any] = None
    auto_class: ClassVar[Any] = AutoModelForImageTextToText
    layout: ClassVar[str] = ""
    system: ClassVar[str] = VICUNA
    bare: ClassVar[str] = "{system} {image}\n{text}"
    placeholder: ClassVar[str | None] = None
    nested: ClassVar[bool] = False
    answer: ClassVar[str] = "The location is"
    image_backend: ClassVar[Literal["pil", "torchvision"]] = "pil"
    blends: ClassVar[bool] = False
    processor_call: ClassVar[Mapping[str, Any]] = {}
    option_names: ClassVar[tuple[str, ...]] = ("padding_side",)

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> bool:
        """Check whether this adapter takes a model with this config.json."""
        return config.get("model_type") in cls.model_types

    # What a family overrides: loading.

    def load_processor(self, spec: ModelSpec) -> Any:
        """Load the processor of a checkpoint from its files."""
        return processors.load_processor(spec, self.processor_class, self.image_backend)

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Fit the adapter's own copy of the processor to the model; return notes for users."""
        del module, options
        return processor, ()

    def language_model(self, module: Any) -> Any:
        """Return the part that contains the decoder layers, as `.layers`."""
        decoder = module.get_decoder()
        return decoder if hasattr(decoder, "layers") else decoder.get_decoder()

    def vision_tower(self, module: Any) -> Any:
        """Return the part in which a picture's patches mix; None where its name is unusual."""
        parts = (getattr(module.base_model, name, None) for name in _TOWERS)
        return next((part for part in parts if part is not None), None)

    def map_layers(self, module: Any) -> Sequence[int] | None:
        """List the layers whose attention can point at the picture; None means all.

        By default these are the attention layers in a config's `layer_types`, without linear ones.
        """
        kinds = getattr(module.config.get_text_config(), "layer_types", None) or ()
        seeing = [i for i, kind in enumerate(kinds) if _attends(kind)]
        return None if len(seeing) == len(kinds) else seeing

    def image_token_id(self, module: Any, processor: Any) -> int | None:
        """Return the id of a picture's tokens: the config's, else that of the image token."""
        stated = getattr(module.config, "image_token_id", None)
        if stated is None:
            stated = processor.tokenizer.convert_tokens_to_ids(self.image_token(processor))
        return None if stated is None else int(stated)

    def image_token(self, processor: Any) -> str:
        """Return the placeholder of a picture in a prompt."""
        return self.placeholder or getattr(processor, "image_token", None) or ""

    # What a family overrides: preparing.

    def bare_prompt(self, model: LoadedModel) -> str:
        """Return the bare prompt form of a checkpoint: `bare`, unless its config needs another."""
        del model
        return self.bare

    def call_options(self, model: LoadedModel) -> Mapping[str, Any]:
        """Return further keyword arguments of the processor's call; they override the others."""
        del model
        return self.processor_call

    def window(self, model: LoadedModel, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return left, top, width, height (pixels) of the part that goes to the processor."""
        del model
        return 0, 0, *size

    def model_inputs(self, model: LoadedModel, tensors: Tensors) -> dict[str, torch.Tensor]:
        """Choose the model's inputs from the processor's output, and move them to its device."""
        del model
        return dict(tensors)

    def position_ids(self, model: LoadedModel, tensors: Tensors) -> torch.Tensor | None:
        """Compute positions that skip padding, on three axes where the model has such a rule.

        Args:
            model: the loaded model.
            tensors: its inputs, with `attention_mask`. A result of None leaves positions to it.
        """
        base: Any = model.module.base_model
        return positions.position_ids(base, tensors)

    def given(self, model: LoadedModel, inputs: PreparedInputs) -> PreparedInputs:
        """Return the inputs of the forward pass, for families that change tensors once more."""
        del model
        return inputs

    # What a family overrides: the picture's tokens.

    def image_positions(
        self, model: LoadedModel, inputs: PreparedInputs, sequence: int
    ) -> Int64[np.ndarray, " tokens"]:
        """Return the key positions of a sequence's picture, in the order of its grids."""
        ids = inputs.tensors["input_ids"][sequence].cpu().numpy()
        return np.flatnonzero(ids == parts_of(model).image_token_id)

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """Return the grids of one picture's tokens, in the order of the sequence.

        Args:
            model: the loaded model with its processor.
            frame: the picture as it goes to the processor, `width` x `height` original pixels.
        """
        raise NotImplementedError

    def image_features(self, model: LoadedModel, inputs: PreparedInputs) -> torch.Tensor | None:
        """Return image features for checks, sequences x keys x width; None = `inputs_embeds`."""
        del model, inputs
        return None

    # Steps of `vg_prepare_inputs`.

    def rendered(
        self, model: LoadedModel, expressions: Sequence[Expression], prompt: Prompt
    ) -> list[prompts.Rendered]:
        """Render each expression's prompt, the picture's placeholder still in it."""
        if len(expressions) > 1 and model.processor.tokenizer.pad_token is None:
            raise ModelError(
                f"{model.name}: the tokenizer has no padding token, so one expression at a time, "
                "or set processor.tokenizer.pad_token"
            )
        forms = {"bare": self.bare_prompt(model), "system": self.system, "answer": self.answer}
        token = parts_of(model).image_token
        with parts_of(model).tokenizer_lock:
            return [
                prompts.render(prompt, text, model.processor, image_token=token, **forms)
                for _, text in expressions
            ]

    def prepared(
        self,
        model: LoadedModel,
        pictures: Sequence[Picture],
        expressions: Sequence[Expression],
        prompt: Prompt,
        places: Sequence[prompts.Rendered],
        tensors: Mapping[str, torch.Tensor],
        recording: prompts.RecordingTokenizer,
    ) -> PreparedInputs:
        """Find the query rows in rendered and tokenised prompts, one per expression."""
        ids, mask = tensors["input_ids"].numpy(), tensors["attention_mask"].numpy()
        kept, unk = parts_of(model), model.processor.tokenizer.unk_token_id
        config: Any = model.module.config
        most = getattr(config.get_text_config(), "max_position_embeddings", None)
        prompts.check_length(expressions, mask.sum(axis=1), most, model.name)
        # An encoder's rows see what stands behind them.
        causal = not getattr(config, "is_encoder_decoder", False)
        queries, unknown = [], []
        for index, expression in enumerate(expressions):
            place = places[index].moved(kept.image_token, recording.texts[index])
            offsets = recording.offsets[index] * mask[index][:, None]
            last = int(np.flatnonzero(mask[index])[-1])
            rows = prompts.rows_of(prompt.query_row, place, offsets, last)
            if causal:
                prompts.check_rows(rows, prompt, ids[index] == kept.image_token_id)
            words = tuple(place.text[slice(*offsets[row].tolist())] for row in rows)
            queries.append(Query(expression.scene, expression.text, index, rows, words))
            unknown.append(prompts.unknown_words(place, offsets, ids[index], unk))
        return PreparedInputs(
            tensors=MappingProxyType(self._placed(model, tensors)),
            queries=tuple(queries),
            sizes=tuple(picture.size for picture in pictures),
            rendered=recording.texts,
            unknown=tuple(unknown),
        )

    # The hooks.

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        """Load from a folder or hub id, or wrap a model in memory; switch capture on."""
        wrong = sorted(set(spec.options) - set(self.option_names))
        if wrong:
            raise InputError(
                f"adapter {self.name!r} has no option {wrong[0]!r}; "
                f"{nearest(wrong[0], self.option_names)}"
            )
        module = spec.module
        if spec.source and (module is None or spec.processor is None):
            spec = loading.found(spec)
        if spec.processor is not None:
            processor = processors.own_processor(spec.processor)
        elif module is None or spec.source:
            processor = self.load_processor(spec)
        else:
            raise InputError("a model in memory needs its processor: load(model=, processor=)")
        if module is None:
            module = loading.load_model(spec, self.auto_class)
        if not isinstance(module, PreTrainedModel):
            raise UnsupportedModelError(
                f"adapter {self.name!r} takes transformers models, got {type(module).__name__}; "
                "if it wraps one, hand that over (model.module, model._orig_mod, or of peft "
                "model.get_base_model())"
            )
        try:
            processor, statements = self.adapt_processor(processor, module, spec.options)
        except AttributeError as error:
            raise InputError(
                f"adapter {self.name!r} cannot use a {type(processor).__name__} ({error}); load "
                "the model's own processor with transformers.AutoProcessor"
            ) from error
        if spec.module is not None:
            loading.check_in_memory(spec, module)
        else:
            statements += loading.peft_statements(spec)
        return prepare_model(
            spec,
            module,
            self.language_model(module),
            processor,
            image_token=self.image_token(processor),
            image_token_id=self.image_token_id(module, processor),
            map_layers=self.map_layers(module),
            statements=statements,
        )

    def vg_prepare_inputs(
        self,
        model: LoadedModel,
        scenes: Sequence[Scene],
        expressions: Sequence[Expression],
        prompt: Prompt,
    ) -> PreparedInputs:
        """One sequence per expression, padded to the longest."""
        places = self.rendered(model, expressions, prompt)
        pictures = [scene.picture for scene in scenes]
        tensors, recording = self._process(model, pictures, expressions, places)
        return self.prepared(model, pictures, expressions, prompt, places, tensors, recording)

    def vg_locate_image_tokens(
        self, model: LoadedModel, inputs: PreparedInputs
    ) -> list[list[View]]:
        """Place the grids of each query's picture at the positions of its own image tokens."""
        located = []
        for query in inputs.queries:
            size = inputs.sizes[query.scene]
            frame = Frame.of(*size).crop(*map(float, self.window(model, size)))
            where = self.image_positions(model, inputs, query.sequence)
            located.append(views_of(self.grids(model, frame), where, model=model.name))
        return located

    def vg_extract_attention(
        self, model: LoadedModel, inputs: PreparedInputs, request: AttentionRequest
    ) -> AttentionRows:
        """One pass of the model up to the last wanted layer, without its output head."""
        kept = parts_of(model)
        taken = capture.rows_per_sequence(inputs)
        recorder = capture.Recorder(
            kept.layers, request.by_layer(), torch.tensor(taken, device=model.device)
        )
        deep = request.last_layer + 1 if model.capabilities.early_exit else model.layers
        with running(model), torch.no_grad(), capture.recording(recorder):
            tensors = self.given(model, inputs).tensors
            kept.twins.at(deep)(**tensors, use_cache=False, return_dict=True)
        layers = recorder.require()
        found = {
            (layer, head): layers[layer][:, index]
            for layer, heads in recorder.wanted.items()
            for index, head in enumerate(heads)
        }
        together = torch.stack([found[head.layer, head.head] for head in request.heads], dim=1)
        rows = []
        for query in inputs.queries:
            where = [taken[query.sequence].index(row) for row in query.rows]
            rows.append(together[query.sequence][:, where])
        return AttentionRows(request.heads, tuple(rows))

    def _process(
        self,
        model: LoadedModel,
        images: Sequence[Picture],
        expressions: Sequence[Expression],
        places: Sequence[prompts.Rendered],
    ) -> tuple[dict[str, torch.Tensor], prompts.RecordingTokenizer]:
        tokenizer = model.processor.tokenizer
        shown = [self._shown(model, picture) for picture in images]
        processor, recording = prompts.with_recording_tokenizer(model.processor)
        side = parts_of(model).options.get("padding_side", tokenizer.padding_side)
        bos = tokenizer.bos_token
        pictures: list[Any] = [shown[expression.scene] for expression in expressions]
        options = {
            "padding": len(expressions) > 1,
            "padding_side": side,
            # A chat template may write the opening token itself; it must not occur twice.
            "add_special_tokens": not (bos and places[0].text.startswith(bos)),
            "return_tensors": "pt",
            **self.call_options(model),
        }
        with parts_of(model).tokenizer_lock, refused_pictures(model, images):
            tensors = processor(
                images=[[picture] for picture in pictures] if self.nested else pictures,
                text=[place.text for place in places],
                **options,
            )
        kept = {name: value for name, value in tensors.items() if torch.is_tensor(value)}
        return kept, recording

    def _shown(self, model: LoadedModel, picture: Picture) -> Image.Image:
        # A Pillow image: processors confuse channels with pixels in an array of width 3 or 1.
        left, top, width, height = self.window(model, picture.size)
        return Image.fromarray(picture.pixels[top : top + height, left : left + width])

    def _placed(
        self, model: LoadedModel, tensors: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Move tensors to the device and add their positions."""
        placed = {
            name: tensor.to(model.device, model.dtype if tensor.is_floating_point() else None)
            for name, tensor in tensors.items()
        }
        placed = self.model_inputs(model, placed)
        stated = self.position_ids(model, placed)
        return placed if stated is None else {**placed, "position_ids": stated}


def _attends(kind: str) -> bool:
    """Check whether a layer of this type has an attention map."""
    return "attention" in kind and "linear" not in kind
