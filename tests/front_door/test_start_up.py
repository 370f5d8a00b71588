"""What a command imports before it finds a mistake."""

import json
import subprocess
import sys
from pathlib import Path

SCENE = Path(__file__).parents[2] / "examples" / "scene.png"
RUN = ("run", "--image", str(SCENE), "--text", "the red circle")
SAID = (
    (("--help",), ""),
    (("adapters",), ""),
    (("heads",), ""),
    ((*RUN, "--imagee", "x"), "No such option"),
    (("run", "--image", "none.png", "--text", "x"), "none.png: no such file"),
    (RUN[:3], "nothing to look for"),
    ((*RUN, "--adapter", "lava"), "no adapter 'lava'"),
    ((*RUN, "--region", "otsuu:c=1"), "no region 'otsuu'"),
    ((*RUN, "--postprocess", "none"), "no plugin 'none'"),
    ((*RUN, "--model", "./none"), "no folder ./none"),
    (("doctor", "./none"), "no folder ./none"),
    (("discover", "--rule", "none"), "no selection rule 'none'"),
    (("eval", "--adapter", "lava"), "no adapter 'lava'"),
    ((*RUN, "--heads", "embeded"), "no head set 'embeded'"),
    (("eval", "--heads", "auto", "--heads", "L4H4,xx"), "'xx' names no head"),
    (("discover", "--data", "mine.jsonl"), "for a file say jsonl:mine.jsonl"),
    (("ablate", "--calibration", "sceness"), "no data set 'sceness'"),
)
# Each command in the same process: what one has imported is told behind it.
CODE = """
import contextlib, io, json, sys
from vg_engine.__main__ import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["vg-engine", *words]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main()
    slow = {"torch", "transformers", "scipy", "pyarrow", "huggingface_hub"} & {*sys.modules}
    print(json.dumps([said.getvalue(), sorted(slow)]))
"""


def test_mistakes_are_told_before_anything_slow_is_imported() -> None:
    commands = json.dumps([words for words, _ in SAID])
    done = subprocess.run(
        [sys.executable, "-c", CODE, commands], check=True, capture_output=True, text=True
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for (words, said), (stderr, slow) in zip(SAID, told, strict=True):
        assert (bool(stderr), slow) == (bool(said), []), words
        assert said in stderr
