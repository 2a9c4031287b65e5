#!/bin/sh
# Puts the peers that no distribution packages into bench/.tools: huggingface_hub's `hf` in an environment of its own,
# and node-llama-cpp with ipull. Run it again to bring both up to date.
set -eu
tools=$(cd "$(dirname "$0")" && pwd)/.tools
mkdir -p "$tools/node"

python3 -m venv "$tools/hf"
"$tools/hf/bin/pip" install -q --upgrade huggingface_hub

cd "$tools/node"
[ -f package.json ] || npm init -y >/dev/null
# Neither llama.cpp's binaries nor their build steps are needed to pull.
npm install --silent --omit=optional --ignore-scripts node-llama-cpp
