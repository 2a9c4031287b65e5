"""The demo's GGUF is a real model: llama.cpp loads it and generates with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from modelcask_cli.demo.models import tiny_gguf

FOLDER = os.environ.get("MODELCASK_TEST_NODE_LLAMA", "")

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (FOLDER and Path(FOLDER, "node_modules", "node-llama-cpp").is_dir()),
        reason="MODELCASK_TEST_NODE_LLAMA names no folder whose node_modules holds node-llama-cpp",
    ),
]

# Resolved from the folder, because an ES module imports packages only from beside itself.
SCRIPT = """
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const [folder, modelPath] = process.argv.slice(2);
const entry = createRequire(folder + "/").resolve("node-llama-cpp");
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry));
const llama = await getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.warn });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 64 });
const generated = [];
for await (const token of context.getSequence().evaluate(model.tokenize("abc xyz"), { temperature: 0 })) {
    generated.push(token);
    if (generated.length === 4) break;
}
const { architecture, name } = model.fileInfo.metadata.general;
console.log(JSON.stringify({ architecture, name, context: model.trainContextSize, generated: generated.length }));
await llama.dispose();
"""


def test_llama_loads_the_gguf_and_generates_four_tokens(tmp_path: Path) -> None:
    """node-llama-cpp opens the file, makes a context and evaluates, without one warning."""
    model = tmp_path / "tiny.gguf"
    model.write_bytes(tiny_gguf())
    script = tmp_path / "load.mjs"
    script.write_text(SCRIPT)
    done = subprocess.run(
        ["node", str(script), str(Path(FOLDER).resolve()), str(model)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "architecture": "llama",
        "name": "modelcask demo",
        "context": 512,
        "generated": 4,
    }
    assert done.stderr == ""
