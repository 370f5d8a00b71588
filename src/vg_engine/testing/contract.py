"""`AdapterContract`: the class that an adapter's tests subclass."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pytest
import torch
from transformers import AutoModelForImageTextToText

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import QUERY_ROWS, Prompt
from vg_engine.testing import paint, parity, sharing, side_effects, summary
from vg_engine.testing.harness import (
    ContractError,
    Harness,
    Size,
    noise,
    open_adapter,
)

FORMS: tuple[Literal["bare", "chat"], ...] = get_args(Literal["bare", "chat"])
FEWEST_SHAPES = 5  # square, wide, tall, tiny and large
ROWS = tuple(
    row for row in QUERY_ROWS if row != "answer_first"
)  # that one is prompt_last with more text


@dataclass(frozen=True)
class Golden:
    """A prompt as it must be, with the run of image tokens written once.

    Attributes:
        expression: what is asked about a square picture.
        prompt: how.
        text: the rendered prompt.
        ids: token ids; None where they are what the tokenizer makes of `text`.
        rows: the query rows' token ids, in order.
    """

    expression: str
    prompt: Prompt
    text: str
    ids: tuple[int, ...] | None = None
    rows: tuple[int, ...] = ()


class AdapterContract:
    r"""Subclass it as `TestMyAdapter`, set `adapter` and `golden`, and write `build`.

    Class attributes:
        adapter: the adapter's class.
        options: `ModelSpec.options` to load with.
        padding: options that choose the padding side, one set per side.
        golden: prompts as they must come out, bare and chat.
        shapes: (width, height) of the pictures of the paint probe.
        strips: whether cells are painted along their sides; False, with the reason, where the
            model itself mixes neighbouring cells.
        probes: "few" cells of every view are painted, or "all" that the kit knows; the option
            `--contract-probes` of `vg_engine.testing.summary` wins.

    Example:
        class TestLlava(AdapterContract):
            adapter = LlavaAdapter
            golden = (Golden("the cup", Prompt(), "... <image>\nthe cup.", rows=(13,)),)

            def build(self, folder):
                tiny_llava(folder)
    """

    adapter: ClassVar[Any] = None
    options: ClassVar[Mapping[str, Any]] = {}
    padding: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"padding_side": "left"},
        {"padding_side": "right"},
    )
    golden: ClassVar[Sequence[Golden]] = ()
    shapes: ClassVar[Sequence[Size]] = paint.SHAPES
    strips: ClassVar[bool] = True
    probes: ClassVar[paint.Probes] = "few"

    # What a subclass writes, or overrides where transformers' ways are not the model's.

    def build(self, folder: Path) -> None:
        """Write a tiny sharpened checkpoint, loadable exactly as a real one."""
        raise NotImplementedError

    def load_plain(self, folder: Path, attention: str) -> Any:
        """The same model without the adapter, with that attention implementation."""
        auto_class: Any = AutoModelForImageTextToText
        return auto_class.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32
        ).eval()

    def layers(self, module: Any) -> Sequence[torch.nn.Module]:
        """The decoder layers."""
        known = getattr(self.adapter(), "language_model", None)
        return list((known(module) if known else module.get_decoder()).layers)

    def vision_tower(self, module: Any) -> torch.nn.Module:
        """The part in which patches mix: as the adapter knows it."""
        known = getattr(self.adapter(), "vision_tower", None)
        tower = known(module) if known else None
        if not isinstance(tower, torch.nn.Module):
            raise ContractError("no vision tower was found; override `vision_tower`")
        return tower

    def unmix(self, opened: Harness) -> None:
        """Switch mixing between patches off."""
        paint.unmix(self.vision_tower(opened.model.module))

    def features(self, opened: Harness, inputs: Any) -> torch.Tensor:
        """The image features as the language model gets them: sequences x keys x width."""
        return paint.embeddings(opened, inputs)

    # Fixtures.

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The tiny checkpoint."""
        folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
        cls().build(folder)
        return folder

    @pytest.fixture(scope="class")
    @classmethod
    def sides(cls, folder: Path, request: pytest.FixtureRequest) -> tuple[Harness, ...]:
        """The adapter with the tiny model, once for each side of the padding."""
        made = []
        for side in cls.padding:
            made.append(cls().open(folder, **side))
            # Not a generator: those break where shapes are checked by jaxtyping's import hook.
            request.addfinalizer(made[-1].model.close)  # noqa: PT021 - see above
        return tuple(made)

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls, sides: tuple[Harness, ...]) -> Harness:
        """The adapter with the tiny model."""
        return sides[0]

    @pytest.fixture(scope="class")
    @classmethod
    def eager(cls, folder: Path) -> Any:
        """The model without the adapter, with eager attention."""
        return cls().load_plain(folder, "eager")

    @pytest.fixture(scope="class")
    @classmethod
    def plain(cls, folder: Path) -> Any:
        """The model without the adapter, as it comes."""
        return cls().load_plain(folder, "sdpa")

    @pytest.fixture
    @classmethod
    def chosen_probes(cls, pytestconfig: pytest.Config) -> paint.Probes:
        """Number of painted cells: the command line's, else the class's."""
        chosen: paint.Probes = pytestconfig.getoption(summary.PROBES, None) or cls.probes
        return chosen

    def open(self, folder: Path, **more: Any) -> Harness:
        """The adapter with the tiny model and further options."""
        return open_adapter(self.adapter(), str(folder), options={**self.options, **more})

    # The contract.

    def test_claims_its_config(self, opened: Harness) -> None:
        """The registry asks the class whether it takes a model."""
        module: Any = opened.model.module
        config = module.config.to_dict()
        if not self.adapter.claims(config) or self.adapter.claims({"model_type": "no such"}):
            raise ContractError(f"{self.adapter.__name__}.claims does not tell its models apart")

    def test_rows_equal_eager_rows(
        self,
        sides: tuple[Harness, ...],
        eager: Any,
        record_property: Callable[[str, object], None],
    ) -> None:
        """Every layer and head, several query rows, batches padded on either side."""
        found = []
        for opened, form in itertools.product(sides, FORMS):
            # Which row is whose does not depend on the side.
            kinds = ROWS if opened is sides[0] else ("expression_all",)
            batches = [parity.batch(opened, Prompt(form=form, query_row=row)) for row in kinds]
            found += [parity.compare(opened, eager, each) for each in parity.joined(batches)]
        parity.check_sharp(found)
        error, sharpest = max(f.error for f in found), max(f.sharpest for f in found)
        rows = sum(f.compared for f in found)
        measured: dict[str, Any] = {"rows": rows, "error": error, "sharpest": sharpest}
        lost = [f.rounding for f in found if f.rounding is not None]
        if lost:
            measured["rounding"] = max(lost)
        print("parity:", measured)  # noqa: T201
        record_property(summary.ADAPTER, self.adapter.name)
        record_property(summary.PARITY, measured)

    def test_positions_are_the_models_own(self, eager: Any, opened: Harness) -> None:
        """Of a prompt without padding the model makes the same positions by itself."""
        parity.check_positions(opened, eager)

    def test_nothing_is_kept_of_another_picture(self, opened: Harness) -> None:
        """Rows do not depend on what went through the model before."""
        parity.check_memory(opened)

    def test_padding_changes_nothing(self, sides: tuple[Harness, ...]) -> None:
        """A padded batch gives the rows of each expression alone."""
        alone: dict[tuple[int, str], parity.Alone] = {}
        for opened in sides:
            parity.check_alone(opened, Prompt(query_row="expression_all"), alone=alone)

    def test_leaves_early(self, opened: Harness) -> None:
        """After the last wanted layer no other runs."""
        parity.check_early_exit(opened, self.layers(opened.model.module))

    def test_what_is_declared_holds(self, opened: Harness) -> None:
        """Kept prefixes and packed expressions, where the adapter declares them."""
        declared = opened.model.capabilities
        if declared.packing:
            sharing.check_packing(opened)
        if declared.prefix_reuse:
            sharing.check_prefix(opened)
        elif opened.hooks.open_scene(opened.model, noise((64, 64)), Prompt(), 1) is not None:
            raise ContractError("vg_open_scene answers, and no prefix reuse is declared")

    def test_cells_lie_where_they_are_said_to_lie(
        self,
        folder: Path,
        chosen_probes: paint.Probes,
        record_property: Callable[[str, object], None],
    ) -> None:
        """The paint probe, on every view of every shape."""
        if len({*self.shapes}) < FEWEST_SHAPES:
            raise ContractError(f"{len({*self.shapes})} shapes are painted, fewer than five")
        opened = self.open(folder)
        try:
            self.unmix(opened)
            report = paint.probe(
                opened, self.features, self.shapes, strips=self.strips, probes=chosen_probes
            )
        finally:
            opened.model.close()
        for line in report.skipped:
            print("skipped:", line)  # noqa: T201 - a probe that was not scored is always told
        report.check()
        print(f"paint probe: {report.right} of {report.planned} right")  # noqa: T201
        record_property(summary.ADAPTER, self.adapter.name)
        counts = {"planned": report.planned, "right": report.right, "wrong": len(report.wrong)}
        record_property(summary.PAINT, counts)

    def test_every_token_is_located(self, opened: Harness) -> None:
        """Of pictures of one pixel as of long strips."""
        for refused in side_effects.check_tokens(opened)[1]:
            print("refused:", refused)  # noqa: T201 - what is refused is always told

    def test_golden_prompts(self, opened: Harness) -> None:
        """Text, token ids and the tokens of the query rows, letter by letter."""
        if {golden.prompt.form for golden in self.golden} != {"bare", "chat"}:
            raise ContractError("give golden prompts in both forms, bare and chat")
        for golden in self.golden:
            inputs = opened.prepare(
                [noise((64, 64))], [Expression(0, golden.expression)], golden.prompt
            )
            text, ids, rows = _collapsed(opened, inputs)
            plain = opened.model.processor.tokenizer(golden.text, add_special_tokens=False)
            written = tuple(plain["input_ids"]) if golden.ids is None else golden.ids
            for what, expected, actual in (
                ("text", golden.text, text),
                ("token ids", written, ids),
                ("query rows", golden.rows, rows),
            ):
                if expected != actual:
                    raise ContractError(
                        f"{golden.prompt.form} prompt of {golden.expression!r}: {what}\n"
                        f"expected {expected!r}\nactual   {actual!r}"
                    )

    def test_expressions_end_as_they_should(self, opened: Harness) -> None:
        """The expression's own ending is kept; control words are refused."""
        for form in FORMS:
            side_effects.check_unusual_expressions(opened, Prompt(form))

    def test_vision_tower_keeps_its_attention(self, plain: Any, opened: Harness) -> None:
        """Capture concerns the language model alone."""
        side_effects.check_vision_alone(opened, side_effects.implementations(plain))

    def test_model_in_memory_is_left_as_it_was_found(self, plain: Any, opened: Harness) -> None:
        """Two users of one model; the last to close gives it back."""
        module = plain.train()
        found = side_effects.Found.of(module)
        processor = opened.model.processor
        first, second = (
            open_adapter(
                self.adapter(), "", options=self.options, module=module, processor=processor
            )
            for _ in range(2)
        )
        inputs = parity.batch(first, Prompt())
        expected = opened.rows(inputs)
        first.rows(inputs)
        first.model.close()
        first.model.close()
        for row, one in zip(second.rows(inputs), expected, strict=True):
            if (row - one).abs().max().item() > parity.TOLERANCE:
                raise ContractError("closing one of two users disturbs the other")
        second.model.close()
        found.check(module)

    def test_two_threads_agree_with_one(self, opened: Harness) -> None:
        """One loaded model serves several threads."""
        side_effects.check_threads(opened)


def _collapsed(opened: Harness, inputs: Any) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    query = inputs.queries[0]
    ids = inputs.tensors["input_ids"][query.sequence].tolist()
    token = side_effects.image_token(opened)
    image = opened.model.processor.tokenizer.convert_tokens_to_ids(token)
    text = re.sub(f"({re.escape(token)})+", lambda _: token, inputs.rendered[query.sequence])
    kept = [i for at, i in enumerate(ids) if not (at and i == image == ids[at - 1])]
    return text, tuple(kept), tuple(ids[row] for row in query.rows)
