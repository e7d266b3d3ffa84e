#!/usr/bin/env bash
# milvus-lite 3.2.2 (with pymilvus 3.0.2): in a filter over a JSON field, booleans are numbers.
#
# Expected: booleans and numbers are kinds of their own in JSON, as texts are: `m["v"] == 1` fits 1 alone,
# `m["v"] == true` fits true alone, `m["v"] > 0` fits no boolean.
# Seen: `== 1` and `== true` both fit 1 and true, `> 0` fits true, `== false` fits 0. Texts are told apart.
# So a filter such as `stars > 0` keeps documents whose `stars` is true, which a store that compares by kind
# (SQLite's json_type) does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q --disable-pip-version-check install pymilvus==3.0.2 milvus-lite==3.2.2
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

from pymilvus import DataType, MilvusClient

client = MilvusClient(f"{sys.argv[1]}/lite.db")
schema = client.create_schema(auto_id=False)
schema.add_field("id", DataType.VARCHAR, max_length=20, is_primary=True)
schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
schema.add_field("m", DataType.JSON)
index = client.prepare_index_params()
index.add_index("vector", metric_type="COSINE", index_type="FLAT")
client.create_collection("c", schema=schema, index_params=index)
values = {"one": 1, "zero": 0, "yes": True, "no": False, "text": "1"}
rows = [{"id": name, "vector": [1.0, 0.0], "m": {"v": value}} for name, value in values.items()]
client.insert("c", rows)
client.load_collection("c")
seen = {
    test: sorted(row["id"] for row in client.query("c", filter=f'm["v"] {test}', output_fields=["id"]))
    for test in ("== 1", "== true", "== false", "> 0")
}
print(seen)
expected = {"== 1": ["one", "yes"], "== true": ["one", "yes"], "== false": ["no", "zero"], "> 0": ["one", "yes"]}
sys.exit(seen != expected)
PY
echo "as described"
