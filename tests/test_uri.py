"""What every spelling of a URI means, and how each wrong one is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import traceback
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from modelcask import ModelCache
from modelcask.digest import Digest
from modelcask.errors import InvalidURIError
from modelcask.uri import HubRepo, ModelURI, parse_uri

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA = "a0" * 32
REPO = "hf://models/org/repo"
MAIN = f"{REPO}@main"
FILE = f"{REPO}@main/model.gguf"

HUB = [
    # huggingface_hub's grammar
    ("hf://org/repo", MAIN),
    ("hf://org/repo/", MAIN),
    ("HF://org/repo", MAIN),
    ("hf://models/org/repo", MAIN),
    (MAIN, MAIN),
    (f"{MAIN}/", MAIN),
    ("hf://org/repo/model.gguf", FILE),
    ("hf://org/repo@main/model.gguf", FILE),
    ("hf://org/repo/sub/dir/", f"{MAIN}/sub/dir"),
    ("hf://org/repo@v1.0/sub/model.gguf", f"{REPO}@v1.0/sub/model.gguf"),
    ("hf://datasets/org/repo@rev/path", "hf://datasets/org/repo@rev/path"),
    ("hf://spaces/org/repo", "hf://spaces/org/repo@main"),
    ("hf://kernels/org/repo@v1", "hf://kernels/org/repo@v1"),
    ("hf://org/repo@refs/pr/1", f"{REPO}@refs/pr/1"),
    ("hf://org/repo@refs/pr/1/path", f"{REPO}@refs/pr/1/path"),
    ("hf://org/repo@refs%2Fpr%2F1/path", f"{REPO}@refs/pr/1/path"),
    ("hf://datasets/org/repo@refs/convert/parquet-v2/a", "hf://datasets/org/repo@refs/convert/parquet-v2/a"),
    ("hf://org/repo@refs%2Fheads%2Fx/a", f"{REPO}@refs%2Fheads%2Fx/a"),
    ("hf://org/repo@feature%2Fx/a", f"{REPO}@feature%2Fx/a"),
    (f"hf://org/repo@{COMMIT}/a", f"{REPO}@{COMMIT}/a"),
    (f"hf://org/repo@{COMMIT.upper()}/a", f"{REPO}@{COMMIT}/a"),
    ("hf://org/repo@0123456", f"{REPO}@0123456"),
    ("hf://models/models/repo", "hf://models/models/repo@main"),
    ("hf://gpt2", "hf://models/gpt2@main"),
    ("hf://gpt2@main/config.json", "hf://models/gpt2@main/config.json"),
    ("hf://models/gpt2", "hf://models/gpt2@main"),
    ("hf://models/gpt2@v1/config.json", "hf://models/gpt2@v1/config.json"),
    ("hf://datasets/squad", "hf://datasets/squad@main"),
    # names with characters that mean something else in a URI
    ("hf://org/repo/a b.gguf", f"{MAIN}/a%20b.gguf"),
    ("hf://org/repo/a%20b.gguf", f"{MAIN}/a%20b.gguf"),
    ("hf://org/repo/a@b.gguf", f"{MAIN}/a%40b.gguf"),
    ("hf://org/repo/a%23b%25c.gguf", f"{MAIN}/a%23b%25c.gguf"),
    ("hf://org/repo/a%2fb.gguf", f"{MAIN}/a/b.gguf"),
    ("hf://org/repo/(a)+[b]~c,d.gguf", f"{MAIN}/(a)+%5Bb%5D~c,d.gguf"),
    ("hf://org/repo/модель.gguf", f"{MAIN}/%D0%BC%D0%BE%D0%B4%D0%B5%D0%BB%D1%8C.gguf"),
    ("hf://org/repo@a%40b%23c/d", f"{REPO}@a%40b%23c/d"),
    # node-llama-cpp's grammar
    ("hf:org/repo", MAIN),
    ("hf:gpt2", "hf://models/gpt2@main"),
    ("hf:org/repo/model.gguf", FILE),
    ("hf:org/repo/model.gguf#main", FILE),
    ("hf:org/repo/sub/model.gguf#dev", f"{REPO}@dev/sub/model.gguf"),
    ("hf:org/repo/a#feature/x", f"{REPO}@feature%2Fx/a"),
    ("hf:org/repo/a#feature%2Fx", f"{REPO}@feature%2Fx/a"),
    ("hf:org/repo/a#refs/pr/7", f"{REPO}@refs/pr/7/a"),
    (f"hf:org/repo/a#{COMMIT.upper()}", f"{REPO}@{COMMIT}/a"),
    ("hf://org/repo#dev", f"{REPO}@dev"),
    (f"hf://org/repo@{COMMIT.upper()}/a#{COMMIT}", f"{REPO}@{COMMIT}/a"),
    ("huggingface:org/repo/a", f"{MAIN}/a"),
    ("huggingface:org/repo/a#rev", f"{REPO}@rev/a"),
    ("huggingface://org/repo/a#rev", f"{REPO}@rev/a"),
    ("HuggingFace://org/repo:q8_0", f"{REPO}:Q8_0"),
    ("hf.co/org/repo", MAIN),
    ("hf.co/org/repo/", MAIN),
    ("HF.co/org/repo", MAIN),
    ("huggingface.co/org/repo/model.gguf", FILE),
    ("huggingface.co/org/repo/model.gguf#dev", f"{REPO}@dev/model.gguf"),
    ("www.huggingface.co/org/repo/sub/a", f"{MAIN}/sub/a"),
    ("hf.co/org/repo@dev/a", f"{REPO}@dev/a"),
    ("hf.co/datasets/org/repo/a", "hf://datasets/org/repo@main/a"),
    ("hf.co/org/repo:Q4_K_M", f"{REPO}:Q4_K_M"),
    ("hf.co/org/repo/blob/dev/sub/a.gguf", f"{REPO}@dev/sub/a.gguf"),
    ("hf.co/org/repo/resolve/main/model.gguf?download=true", FILE),
    # tags
    ("hf:org/repo:Q4_K_M", f"{REPO}:Q4_K_M"),
    ("hf:org/repo:q4_k_m", f"{REPO}:Q4_K_M"),
    ("hf://models/org/repo:Q4_K_M", f"{REPO}:Q4_K_M"),
    *((f"hf:org/repo:{tag.lower()}", f"{REPO}:{tag}") for tag in ("IQ2_XXS", "F16", "BF16", "Q8_0", "UD-Q4_K_XL")),
    *((f"hf:org/repo:{tag.lower()}", f"{REPO}:{tag}") for tag in ("Q4_0_4_4", "IQ4_NL", "TQ1_0", "MXFP4", "F32")),
    ("hf:org/repo:latest", f"{REPO}:latest"),
    ("hf:org/repo:My-Tag.v2", f"{REPO}:My-Tag.v2"),
    (f"hf:org/repo:Q4_0#sha256={SHA}", f"{REPO}:Q4_0#sha256={SHA}"),
    # pins
    (f"hf://org/repo/model.gguf#sha256={SHA.upper()}", f"{FILE}#sha256={SHA}"),
    (f"hf://org/repo@dev/a#BLAKE3={SHA}", f"{REPO}@dev/a#blake3={SHA}"),
    # pages of the web site
    ("https://huggingface.co/org/repo", MAIN),
    ("https://huggingface.co/org/repo/", MAIN),
    ("https://HF.co:443/org/repo", MAIN),
    ("http://www.huggingface.co/org/repo", MAIN),
    ("https://huggingface.co/org/repo:Q4_K_M", f"{REPO}:Q4_K_M"),
    ("https://huggingface.co/org/repo/tree/main", MAIN),
    ("https://huggingface.co/org/repo/tree/main/sub", f"{MAIN}/sub"),
    ("https://huggingface.co/org/repo/tree/refs/pr/1", f"{REPO}@refs/pr/1"),
    ("https://huggingface.co/org/repo/blob/refs%2Fpr%2F1/a", f"{REPO}@refs/pr/1/a"),
    ("https://huggingface.co/org/repo/raw/feature%2Fx/a", f"{REPO}@feature%2Fx/a"),
    ("https://huggingface.co/org/repo/blame/main/a%20b%40c", f"{MAIN}/a%20b%40c"),
    ("https://huggingface.co/org/repo/blob/main/a@b", f"{MAIN}/a%40b"),
    ("https://huggingface.co/org/repo/resolve/main/model.gguf?download=true", FILE),
    ("https://huggingface.co/org/repo/blob/main/model.gguf?library=x#L10", FILE),
    (f"https://huggingface.co/org/repo/blob/main/model.gguf#sha256={SHA}", f"{FILE}#sha256={SHA}"),
    ("https://huggingface.co/datasets/org/repo/blob/main/a.csv", "hf://datasets/org/repo@main/a.csv"),
    ("https://huggingface.co/datasets/squad", "hf://datasets/squad@main"),
    ("https://huggingface.co/spaces/org/repo", "hf://spaces/org/repo@main"),
    ("https://huggingface.co/kernels/org/repo/tree/v1", "hf://kernels/org/repo@v1"),
    ("https://huggingface.co/org/raw/blob/main/a", "hf://models/org/raw@main/a"),
    ("https://huggingface.co/gpt2/resolve/main/config.json", "hf://models/gpt2@main/config.json"),
]

URLS = [
    ("https://host.example/a/model.gguf", "https://host.example/a/model.gguf"),
    ("HTTPS://Host.Example:443/a", "https://host.example/a"),
    ("http://host:80/a", "http://host/a"),
    ("http://host:/a", "http://host/a"),
    ("http://host:0443/a", "http://host:443/a"),
    ("http://127.0.0.1:8000/a", "http://127.0.0.1:8000/a"),
    ("http://[0:0:0:0:0:0:0:1]:8000/a", "http://[::1]:8000/a"),
    ("http://[2001:DB8::A]/a", "http://[2001:db8::a]/a"),
    ("http://model_server/a", "http://model_server/a"),
    ("https://bücher.example/a", "https://xn--bcher-kva.example/a"),
    ("https://host", "https://host/"),
    ("https://host?a=1", "https://host/?a=1"),
    ("https://host/a?", "https://host/a"),
    ("https://host/a#", "https://host/a"),
    ("https://host/a#part", "https://host/a"),
    ("https://host/%7Ea/%2f%c3%a9", "https://host/~a/%2F%C3%A9"),
    ("https://host/é[1]", "https://host/%C3%A9%5B1%5D"),
    ("https://host//a//b", "https://host//a//b"),
    ("https://host/a@b:c", "https://host/a@b:c"),
    ("https://host/a?b=%7e&c=%2f&d", "https://host/a?b=~&c=%2F&d"),
    ("https://host/a?b=/?", "https://host/a?b=/?"),
    (f"https://host/a#sha256={SHA.upper()}", f"https://host/a#sha256={SHA}"),
    (f"https://host/a?b=1#blake3={SHA}", f"https://host/a?b=1#blake3={SHA}"),
    ("https://huggingface.co:8443/org/repo", "https://huggingface.co:8443/org/repo"),
    ("https://cdn.hf.co/org/repo", "https://cdn.hf.co/org/repo"),
    ("file:///a/model.gguf", "file:///a/model.gguf"),
    ("file:/a/b", "file:///a/b"),
    ("FILE://LOCALHOST/a/b", "file:///a/b"),
    ("file:////a//./b", "file:///a/b"),
    ("file:///a b/%7e/%c3%a9+%2B", "file:///a%20b/~/%C3%A9++"),
    ("file:///a/%3F%23%25%5C", "file:///a/%3F%23%25%5C"),
    ("file:///a/%FF", "file:///a/%FF"),
    ("file:///~/a@b", "file:///~/a%40b"),
    (f"file:///a#sha256={SHA}", f"file:///a#sha256={SHA}"),
    ("file:///a#x", "file:///a"),
    ("ollama://llama3:8b", "ollama://llama3:8b"),
    ("S3://Bucket/Key/a%7Eb.gguf", "s3://Bucket/Key/a~b.gguf"),
    ("ms://org/repo#x", "ms://org/repo"),
    (f"oci://host/a@sha256:{SHA}#sha256={SHA}", f"oci://host/a@sha256:{SHA}#sha256={SHA}"),
    ("s3://bucket/a?versionId=1&token=x", "s3://bucket/a?versionId=1"),
]

SIGNED = [
    # the query as it was signed, and what of it is kept
    ("X-Amz-Algorithm=A&X-Amz-Credential=B&X-Amz-Date=C&X-Amz-Expires=1&X-Amz-Signature=S", ""),
    ("versionId=7&x-amz-signature=S&X%2DAmz-Security-Token=T", "versionId=7"),
    ("AWSAccessKeyId=A&Signature=S&Expires=1&a=1", "a=1"),
    ("Expires=1&Signature=S&Key-Pair-Id=K&a=1&Policy=P", "a=1"),
    ("X-Goog-Algorithm=A&X-Goog-Signature=S&generation=3", "generation=3"),
    ("GoogleAccessId=A&Expires=1&Signature=S", ""),
    ("sv=1&st=2&se=3&sr=b&sp=r&spr=https&skoid=4&sktid=5&sig=S", ""),
    ("id=1&token=T", "id=1"),
    ("access_token=T&id=1;api_key=K", "id=1"),
    ("a=1&apikey=K&&b=2", "a=1&&b=2"),
    ("private-token=T&password=P&client_secret=C&jwt=J&auth=A", ""),
    # ordinary words where nothing is signed
    ("expires=1&policy=2&se=3&sp=4", "expires=1&policy=2&se=3&sp=4"),
    ("keys=a&design=b&author=c", "keys=a&design=b&author=c"),
]

REFUSED = [
    # text, the part that is wrong, and the suggestion
    ("", "", None),
    ("  ", "", None),
    (" hf://org/repo", " ", "hf://org/repo"),
    ("hf://org/repo\n", "\\n", "hf://org/repo"),
    ("hf://org/re\x1bpo", "\\x1b", None),
    ("hf://org/re\u202epo", "\\u202e", None),
    ("hf://org/re\ud800po", "\\ud800", None),
    ("https://host/" + "a" * 8192, "8205 characters", None),
    ("https://host/" + "é" * 1400, "8413 characters", None),
    # never guessed
    ("org/model", "org/model", "hf://org/model"),
    ("org/model:Q4_K_M", "org/model:Q4_K_M", "hf://org/model:Q4_K_M"),
    ("org/model@dev/a", "org/model@dev/a", "hf://org/model@dev/a"),
    ("llama3", "llama3", None),
    ("llama3:8b", "llama3:", None),
    ("model.gguf", "model.gguf", None),
    ("/data/x.gguf", "/data/x.gguf", "file:///data/x.gguf"),
    ("/data/x y#1%.gguf", "/data/x y", "file:///data/x%20y%231%25.gguf"),
    ("/data/../x", "/data/../x", None),
    ("./x", "./x", None),
    ("../x", "../x", None),
    ("~/x", "~/x", None),
    ("C:\\x", "C:", None),
    ("c:/x", "c:", None),
    ("\\\\host\\x", "\\\\host\\x", None),
    ("host.com/file.gguf", "host.com", "https://host.com/file.gguf"),
    ("host.com:8080/file.gguf", "host.com:", "https://host.com:8080/file.gguf"),
    ("localhost/file.gguf", "localhost", "http://localhost/file.gguf"),
    ("localhost:8080/file.gguf", "localhost:", "http://localhost:8080/file.gguf"),
    ("//host/x", "//", "https://host/x"),
    ("git@host:org/repo", "user name or password", None),
    ("@/x", "user name or password", None),
    # slips
    ("http:/x", "http:/", "http://x/"),
    ("https:host/x", "https:", "https://host/x"),
    ("https:///host/x", "https:///", "https://host/x"),
    ("htps://x", "htps", "https://x/"),
    ("htpp://x", "htpp", "http://x/"),
    ("http2://x", "http2", "http://x/"),
    ("htps://user:secret@host/", "htps", "https://host/"),
    ("flie:///x", "flie", "file:///x"),
    ("huggingfce:org/repo", "huggingfce", f"{MAIN}"),
    ("hf:/org/repo", "/", "hf://org/repo"),
    ("hf:///org/repo", "///", "hf://org/repo"),
    ("mailto:a", "mailto:", None),
    ("s3://", "s3://", None),
    ("s3://?a=1", "s3://", None),
    # the Hub
    ("hf:", "", None),
    ("hf://", "//", None),
    ("hf://models", "models", None),
    ("hf://models/", "models", None),
    ("hf://model/org/repo", "model", "hf://models/org/repo"),
    ("hf://dataset/org/repo", "dataset", "hf://datasets/org/repo"),
    ("hf://buckets/org/repo", "buckets", None),
    ("hf://bucket/org/repo", "bucket", None),
    ("hf://spaces/word", "word", None),
    ("hf://org/repo:/data", ":/", "hf://org/repo"),
    ("hf://org/repo@main/sub:/data:ro", ":/", "hf://org/repo@main/sub"),
    ("hf://https://huggingface.co/org/repo", "://", f"{MAIN}"),
    ("hf://huggingface.co/org/repo", "huggingface.co", "hf://org/repo"),
    ("hf://org/repo?download=true", "?", "hf://org/repo"),
    ("hf://org/repo.git", "repo.git", "hf://org/repo"),
    ("https://huggingface.co/org/repo.git", "repo.git", "hf://org/repo"),
    *((f"hf://org/{name}", name, None) for name in ("-a", "a-", ".a", "a.", "a--b", "a..b", "a,b", "é", "a" * 97)),
    ("hf://org//a", "", None),
    ("hf:///", "///", None),
    ("hf://org%2Frepo", "org/repo", None),
    ("hf://org/repo@", "@", "hf://models/org/repo/"),
    ("hf://org/repo@/a", "@", "hf://models/org/repo/a"),
    ("hf://org/repo/a#", "#", f"{MAIN}/a"),
    ("hf:org/repo/a#x#y", "#x#y", None),
    *((f"hf://org/repo@{ref}", ref, None) for ref in ("-x", "a..b", "a.lock", ".a", "a.", "a~1", "a^", "@", "refs")),
    ("hf://org/repo@a%20b", "a b", None),
    ("hf://org/repo@a%2F%2Fb", "a//b", None),
    ("hf://org/repo@a@%7Bb", "a@{b", None),
    ("hf://org/repo@a%3Ab", "a:b", None),
    ("hf://org/repo@a%00b", "a\\x00b", None),
    ("hf://org/repo@" + "a" * 256, "a" * 200 + "…", None),
    ("hf://org/repo@refs/heads/main", "refs/heads/main", None),
    ("hf://org/repo@refs/pr/x", "refs/pr/x", None),
    ("hf://org/repo@refs/pr/1x/a", "refs/pr/1x/a", None),
    ("hf://org/repo#refs", "refs", None),
    ("hf://org/repo@dev/a#main", "#main", None),
    ("hf://org/repo//a", "/a", None),
    ("hf://org/repo//", "", None),
    ("hf://org/repo/../a", "../a", None),
    ("hf://org/repo/%2e%2e/a", "../a", None),
    ("hf://org/repo/a%3Ab", "a:b", None),
    ("hf://org/repo/con.txt", "con.txt", None),
    ("hf://org/repo/a%00", "a\\x00", None),
    ("hf://org/repo/%FF", "%FF", None),
    ("hf://org/repo/100%", "%", None),
    ("hf://org/repo:", "", None),
    ("hf://org/repo:Q4/a", "Q4/a", None),
    ("hf://org/repo:Q4 K", "Q4 K", None),
    ("hf://gpt2:Q4_K_M", "gpt2:Q4_K_M", None),
    ("hf://datasets/org/repo:Q4_K_M", ":Q4_K_M", "hf://datasets/org/repo"),
    ("hf:org/repo:Q4_K_M@dev", ":Q4_K_M", f"{REPO}:Q4_K_M"),
    ("hf:org/repo@dev:Q4_K_M", ":Q4_K_M", f"{REPO}:Q4_K_M"),
    ("hf:org/repo:Q4_K_M#dev", ":Q4_K_M", f"{REPO}:Q4_K_M"),
    # pins
    (f"hf://org/repo#sha256={SHA}", "#sha256=", None),
    (f"hf://org/repo/sub/#sha256={SHA}", "#sha256=", None),
    (f"https://hf.co/org/repo/tree/main/sub#sha256={SHA}", "#sha256=", None),
    ("hf://org/repo/a#sha256=ab12", "#sha256=ab12", None),
    ("https://host/a#sha256=ab12&x=secret", "#sha256=ab12", None),
    ("file:///a#blake3=", "#blake3=", None),
    (f"https://host/a#sha256:{SHA}", "#sha256:", f"https://host/a#sha256={SHA}"),
    (f"https://host/a#sha256%3D{SHA}", "#sha256%3D", f"https://host/a#sha256={SHA}"),
    ("https://host/a#sha256-oKCg", "#sha256-", None),
    (f"https://host/a#{SHA}", f"#{SHA}", f"https://host/a#sha256={SHA}"),
    ("hf://org/repo/a#md5=0123", "#md5=", None),
    # pages of the Hub that are no repositories
    ("https://huggingface.co", "/", None),
    ("hf.co", "", None),
    ("https://huggingface.co/org", "/org", None),
    ("https://huggingface.co/datasets", "/datasets", None),
    ("https://huggingface.co/spaces/org", "/spaces/org", None),
    ("https://huggingface.co/buckets/org/repo", "buckets", None),
    ("https://huggingface.co/api/models/org/repo", "api", None),
    ("https://huggingface.co/settings/tokens", "settings", None),
    ("https://huggingface.co/docs/hub", "docs", None),
    ("https://huggingface.co/org/repo/discussions/1", "discussions", "hf://org/repo"),
    ("https://huggingface.co/datasets/org/repo/settings", "settings", "hf://datasets/org/repo"),
    ("hf.co/org/repo/commits/main", "commits", "hf://org/repo"),
    ("https://huggingface.co/org/repo/model.gguf", "model.gguf", "hf://org/repo/model.gguf"),
    ("https://huggingface.co/org/repo/blob", "blob", "hf://org/repo"),
    ("https://huggingface.co/org/repo@dev/blob/main/a", "repo@dev", None),
    ("https://huggingface.co/org//repo", "/org//repo", None),
    # hosts, ports and paths that parsers read differently
    ("https://", "https://", None),
    ("https://:80/", "https://", None),
    ("https://?a", "https://", None),
    ("https://user:secret@host/a?b=1", "user name or password", "https://host/a?b=1"),
    ("https://secret@host/", "user name or password", "https://host/"),
    ("https://@host/", "user name or password", "https://host/"),
    ("https://user:sec/ret@host/", "user name or password", None),
    ("https://user:s@ecret@host/", "user name or password", None),
    ("https://user:/secret@host/", "user name or password", None),
    ("https://user:]secret#@host/", "user name or password", None),
    ("s3://user:sec#ret@host/", "user name or password", None),
    ("file://user:sec/ret@host/", "user name or password", None),
    ("sftp://user:secret@host/a", "user name or password", "sftp://host/a"),
    ("file://user:secret@host/a", "user name or password", None),
    ("hf://user:secret@org/repo", "user name or password", None),
    ("hf:https:user:secret#@host/", "user name or password", None),
    ("hf.co/user:secret@org/repo", "user name or password", None),
    ("https://host\\@evil/", "\\", None),
    ("https://host/a\\b", "\\", None),
    ("https://ho st/", " ", None),
    ("https://host/a b?c d#e", " ", "https://host/a%20b?c%20d"),
    ("https://a..b/", "a..b", None),
    ("https://.a/", ".a", None),
    ("https://host./a", "host.", "https://host/a"),
    ("https://-a/", "-a", None),
    ("https://" + "a" * 64 + "/", "a" * 64, None),
    ("https://" + "abc." * 64 + "a/", "abc." * 50 + "…", None),
    ("https://%68ost/", "%68ost", None),
    ("https://ho!st/", "ho!st", None),
    ("https://a:b:c/", "b:c", None),
    ("https://straße.example/", "straße.example", None),
    ("https://a\u2100b/", "a\u2100b", None),
    ("https://" + "é" * 70 + "/", "é" * 70, None),
    *((f"https://{host}/", host, None) for host in ("0x7f.1", "127.1", "2130706433", "127.0.0.01", "1.2.3.256")),
    *((f"https://host:{port}/", port, None) for port in ("0", "65536", "x", "+80", "8_0", "-1", "٨٠")),
    ("https://[::1/", "[::1", None),
    ("https://[::1]:x/", "x", None),
    ("https://::1/", "https://", None),
    ("https://[::1]x/", "[::1]x", None),
    ("https://[fe80::1%25eth0]/", "[fe80::1%25eth0]", None),
    ("https://[v1.a]/", "[v1.a]", None),
    ("https://[::ffff:127.0.0.1]:8/a", "[::ffff:127.0.0.1]", "https://127.0.0.1:8/a"),
    ("https://host/a/../b?c=1&token=x", "..", "https://host/b?c=1"),
    ("https://host/a/%2E%2e", "..", "https://host/"),
    ("https://host/./b", ".", "https://host/b"),
    ("https://host/100%", "%", None),
    ("https://host/a?b=%zz", "%zz", None),
    # files
    ("file:a", "file:", None),
    ("file:", "file:", None),
    ("file:///", "/", None),
    ("file:///a/", "/a/", "file:///a"),
    ("file://data/x.gguf", "data", "file:///data/x.gguf"),
    ("file://~/x", "~", None),
    ("file://./x", ".", None),
    ("file:///a/../b", "..", None),
    ("file:///a/%2e%2E/b", "..", None),
    ("file:///a/b%2Fc", "b%2Fc", None),
    ("file:///a/b%00c", "b%00c", None),
    ("file:///a\\b", "\\", None),
    ("file:///a?b", "?", None),
]


def _ids(row: object) -> str:
    return ascii(row)[:60]


@pytest.mark.parametrize(("text", "canonical"), HUB + URLS, ids=_ids)
def test_each_spelling_has_one_canonical_uri(text: str, canonical: str) -> None:
    """Every accepted spelling gives the canonical URI, which reads back as the same value."""
    uri = parse_uri(text)
    assert str(uri) == uri.canonical == canonical
    assert parse_uri(canonical) == uri
    assert hash(parse_uri(canonical)) == hash(uri)


@pytest.mark.parametrize(("query", "kept"), SIGNED, ids=_ids)
def test_signed_parameters_are_sent_but_not_kept(query: str, kept: str) -> None:
    """Signatures and tokens stay in what is requested, leave the canonical URI, and are listed by name only."""
    uri = parse_uri(f"https://host/a?{query}")
    assert uri.source == uri.canonical == "https://host/a" + (f"?{kept}" if kept else "")
    assert uri.fetch_url == f"https://host/a?{query}"
    assert bool(uri.notes) == (query != kept)


@pytest.mark.parametrize(("text", "part", "suggestion"), REFUSED, ids=_ids)
def test_each_wrong_text_is_refused_with_its_part_and_right_form(text: str, part: str, suggestion: str | None) -> None:
    """A refusal names the part; its suggestion can be read; nothing raw or secret is in its message."""
    with pytest.raises(InvalidURIError) as caught:
        parse_uri(text)
    error = caught.value
    assert (error.part, error.suggestion) == (part, suggestion)
    if suggestion is not None:
        parse_uri(suggestion)
    assert str(error).isprintable()
    assert "secret" not in f"{error} {error.text} {error.part} {error.suggestion}"


def test_the_fields_of_a_hub_file() -> None:
    """A file in a repository has the parts that the catalog and the Hub's source ask for."""
    uri = parse_uri("hf:org/repo/sub/a.gguf#dev")
    assert uri == ModelURI("hf", REPO, "sub/a.gguf", "dev", None, None, HubRepo("models", "org/repo"))
    assert uri.fetch_url is uri.quant is None


def test_a_commit_is_a_revision_and_all_else_a_ref() -> None:
    """40 hex digits are immutable; a shorter number, a tag or nothing is a movable name."""
    pinned = parse_uri(f"hf://org/repo@{COMMIT.upper()}")
    assert (pinned.revision, pinned.ref) == (COMMIT, None)
    assert [(u.revision, u.ref) for u in map(parse_uri, ("hf://org/repo@0123456", "hf://org/repo"))] == [
        (None, "0123456"),
        (None, "main"),
    ]


def test_the_fields_of_a_tag() -> None:
    """A quantisation tag is a ref of its own, beside the branches."""
    uri = parse_uri("hf://org/repo:q4_k_m")
    assert (uri.quant, uri.ref, uri.revision, uri.path) == ("Q4_K_M", ":Q4_K_M", None, "")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("https://host/a/model%20x.gguf?y", "model x.gguf"),
        ("https://host/", "download"),
        ("https://host/a/", "download"),
        ("https://host/con", "download"),
        ("https://host/a%2Fb", "download"),
        ("https://host/%FF", "download"),
        ("https://host/a%00", "download"),
        ("file:///a/b.gguf", "b.gguf"),
        ("file:///a/%FF", "download"),
        ("s3://bucket/key.gguf", "key.gguf"),
    ],
    ids=_ids,
)
def test_a_url_names_its_file_or_none_that_is_safe(text: str, name: str) -> None:
    """The path of a URL's only file is its last segment, or ``download`` where that may not be a name."""
    uri = parse_uri(text)
    assert (uri.path, uri.ref, uri.revision, uri.repo) == (name, "latest", None, None)


def test_a_request_keeps_the_spelling_that_was_signed() -> None:
    """What is requested is as it was written but for characters that no URL may hold, and has no fragment."""
    uri = parse_uri("HTTPS://Host:443/%7ea%2f[é]?x=%2f&sig=a%2bb#part")
    assert uri.fetch_url == "https://host/%7ea%2f%5B%C3%A9%5D?x=%2f&sig=a%2bb"
    assert uri.source == "https://host/~a%2F%5B%C3%A9%5D?x=%2F"
    assert uri == parse_uri(uri.canonical)


def test_a_pin_is_read_as_a_digest() -> None:
    """A digest in the fragment becomes a value in lower case."""
    assert parse_uri(f"https://host/a#sha256={SHA.upper()}").pin == Digest("sha256", SHA)


def test_hosts_of_another_endpoint_are_read_like_the_hub() -> None:
    """A mirror's pages name the same repositories; without being named it is an ordinary host."""
    hosts = ["Mirror.example", "localhost:8080", "plain:443"]
    for text in (
        "https://mirror.example/org/repo/blob/main/model.gguf",
        "http://mirror.example/org/repo/resolve/main/model.gguf",
        "http://localhost:8080/org/repo/resolve/main/model.gguf",
        "localhost:8080/org/repo/model.gguf",
        "https://plain/org/repo/blob/main/model.gguf",
    ):
        assert parse_uri(text, hub_hosts=hosts).canonical == FILE
    assert parse_uri("https://mirror.example/org/repo").repo is None
    assert parse_uri("http://localhost/org/repo", hub_hosts=hosts).repo is None


def test_a_name_with_quant_and_revision_is_shown_both_right_forms() -> None:
    """The Hub cannot give a tag of an old revision, so the message offers the one and the other."""
    with pytest.raises(InvalidURIError, match=r"hf://models/org/repo@dev/FILE.*did you mean hf://models/org/repo:Q4"):
        parse_uri("hf:org/repo:Q4_K_M#dev")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hf://org/repo", "whole repository"),
        ("hf://org/repo", ":latest"),
        ("hf://org/repo", "branch main"),
        ("hf://org/repo/sub/", "folder"),
        ("hf://org/repo:Q4_K_M", "tag Q4_K_M"),
        ("hf://gpt2", "legacy"),
        ("hf.co/org/repo", "page"),
        ("https://hf.co/org/repo/blob/main/a?b", "query"),
        ("https://host/a#b", "fragment"),
        ("https://host/a#", "fragment"),
        ("https://host/a?Token=b", "Token"),
    ],
    ids=_ids,
)
def test_the_notes_say_how_a_text_was_read(text: str, words: str) -> None:
    """What was assumed or left out is told in one of the notes."""
    assert any(words in note for note in parse_uri(text).notes)


def test_a_plain_file_needs_no_notes() -> None:
    """A canonical URI of one file is read without an assumption."""
    assert parse_uri(FILE).notes == parse_uri("https://host/a").notes == ()


def test_replacing_the_revision_gives_its_canonical_uri() -> None:
    """A resolved ref is named by replacing the field, with names encoded as always."""
    uri = dataclasses.replace(parse_uri("hf://org/repo"), ref=None, revision=COMMIT, path="a b")
    assert uri.canonical == f"{REPO}@{COMMIT}/a%20b"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "not NoneType: write hf://org/name"),
        (7, "not int: write hf://org/name"),
        (["hf://org/name"], "not list: write hf://org/name"),
        (b"hf://org/name", "not bytes: decode it first"),
        (PurePosixPath("/models/a b.gguf"), "write it as file:///models/a%20b.gguf"),
        (PurePosixPath("a\x1b.gguf"), "write it as file:///…/a\\x1b.gguf"),
    ],
    ids=_ids,
)
def test_what_is_no_text_is_one_clear_line(value: Any, words: str, tmp_path: Path) -> None:
    """A TypeError names what is accepted, for a path even the URI to write; a cache says it alike."""
    for read in (parse_uri, ModelCache(tmp_path).parse, ModelCache(tmp_path).lookup):
        with pytest.raises(TypeError) as caught:
            read(value)
        assert str(caught.value).startswith("a URI is a str or a ModelURI, not ")
        assert words in str(caught.value)


def test_a_printed_value_and_traceback_show_no_secret() -> None:
    """Neither repr nor the traceback of a refusal repeats what was signed or typed as a password."""
    assert "secret" not in repr(parse_uri("https://host/a?token=secret#secret"))
    with pytest.raises(InvalidURIError) as caught:
        parse_uri("https://user:secret@host/")
    # The lines of source that a traceback quotes hold the word in this test itself: only the messages count.
    assert caught.value.__context__ is caught.value.__cause__ is None
    assert "secret" not in "".join(traceback.format_exception_only(caught.value))


def test_reading_needs_nothing_heavy() -> None:
    """A lookup begins with this import, so it must load no network, database or Hub library."""
    heavy = {"aiohttp", "yarl", "huggingface_hub", "msgspec", "sqlalchemy", "difflib"}
    code = f"import sys, modelcask.uri; print(*sorted(set(sys.modules) & {heavy!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
