r"""Original checkpoints turned into folders that transformers' native classes load.

One converter is one small file. To add one:

1. Write `model_adapters/conversion/<format>.py` with a subclass of `protocol.Converter`:

   ```python
   class Example(Converter):
       name = "example"
       summary = "Example-VL 7B, as its authors published it"
       takes_tower = True                    # --vision-tower DIR means something here
       delta_norm = "model.norm.weight"      # only where deltas were published

       def claims(self, config):             # the source's config.json; be exact
           return config.get("architectures") == ["ExampleForCausalLM"]

       def plan(self, request):              # request.source, request.vision_tower
           return Plan(config=..., model_class=LlavaForConditionalGeneration,
                       parts=(Part(request.source, RULES), Part(tower, TOWER_RULES)),
                       processor=...)
   ```

2. Name it in pyproject.toml; a package of your own does the same:

   ```toml
   [project.entry-points."vg_engine.converters"]
   example = "vg_engine.model_adapters.conversion.example:Example"
   ```

**Rules are data.** A `Rule` has a pattern (a regular expression for a *whole* key), the new names
(`\1` stands for a group; no name at all: the tensor is dropped on purpose), and `known`: the public
script that the rule was checked against, or `protocol.ASSUMED`. The first rule that matches wins.
A key without a rule is unexpected and fails the conversion. Where one tensor becomes several, or
changes its shape, give `change`: it takes the tensor and gives one tensor per name. It runs first
on tensors without data (device `meta`), so it may slice, reshape and permute, but must not look at
values.

**New names are those of `model_class(config).state_dict()`.** The model is built without data, and
every name and shape is compared with it *before the first byte is written*: what is missing,
unexpected, twice there or of another shape is named in one `WeightsError`.

**What no file holds** is named in the plan: `made` (name -> function of the model's empty tensor),
and `grown` (names that may have fewer rows than the model, filled up with the mean row).

**Tensors are read one at a time** (`source.Checkpoint`): `.config`, `.entries` (key -> shape and
dtype), `.tensor(key)`. safetensors, `.bin`, single or sharded, and a delta with its base added look
the same. Nothing of a source folder is executed.

**Processor and tokenizer**: `plan.processor` is anything with `save_pretrained(folder)`.
`vocabulary.load_tokenizer(folder)` reads `tokenizer.json`, `vocab.json` with `merges.txt`, or a
sentencepiece `tokenizer.model` (no further library needed); `vocabulary.add_special` adds what is
missing.

**What formats share**: `configs.text_config` takes a decoder's entries over, `clip` reads a CLIP
tower from the checkpoint or from its own folder, and `llava_original` states the rules of a LLaMA
and of its projectors.

**A mistake** of the user is a `VGError` of one line that says what to do; raise it in `plan`,
before anything is written. `plan.statements` are sentences that the user reads and that the report
keeps.

The pipeline (`pipeline.convert`) does the rest: finding the converter, deltas, checking, shards,
the temporary folder, progress and the report `vg_engine_conversion.json`.
"""
