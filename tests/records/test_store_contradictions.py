"""A store whose small files were changed and sealed again, or that holds a shard too many."""

from __future__ import annotations

import builtins
import errno
import json
import shutil
from pathlib import Path

import pytest

from tfkd.errors import RecordError
from tfkd.records import Store, open_store, open_verified
from tfkd.storage.sealed_json import read_sealed, write_sealed


@pytest.fixture
def copied(prepared, tmp_path):
    return shutil.copytree(prepared["test"].directory, tmp_path / "store")


def resealed(path, change) -> None:
    value = read_sealed(path)
    change(value)
    write_sealed(path, value)


MARKERS = {
    "no shards": (lambda m: m["shards"].clear(), "does not name the shards of the plan"),
    "one shard less": (lambda m: m["shards"].pop(), "does not name the shards of the plan"),
    "shards renamed": (lambda m: m["shards"][0].update(name="x"), "does not name the shards"),
    "shard without size": (lambda m: m["shards"][0].pop("size_bytes"), "lacks size_bytes"),
    "shards a number": (lambda m: m.update(shards=3), "holds 3 as shards"),
    "row no object": (lambda m: m["shards"].__setitem__(0, 7), "holds 7, not an object"),
    "no summary": (lambda m: m.pop("summary"), "lacks summary"),
    "summary without records": (lambda m: m["summary"].pop("records"), "lacks records"),
    "records": (lambda m: m["summary"].update(records=65), "says that records is 65, its shards 6"),
    "unknown field": (lambda m: m["summary"].update(extra=1), "has an unknown field extra"),
    "kind": (
        lambda m: m["summary"].update(kind="pseudo_labels"),
        "says that kind is pseudo_labels",
    ),
    "identity": (lambda m: m["summary"].update(sha256="0"), "says that sha256 is 0"),
    "lost rows": (
        lambda m: (m["shards"][0].update(records=3), m["summary"].update(records=5)),
        "does not account for every utterance of utterances-00000",
    ),
    "index not sealed": (lambda m: m["files"].pop("index.jsonl"), "does not seal index.jsonl"),
    "no plan": (lambda m: m.pop("plan_sha256"), "lacks plan_sha256"),
}


@pytest.mark.parametrize(("change", "message"), MARKERS.values(), ids=MARKERS)
def test_a_marker_that_contradicts_itself_is_refused(copied, change, message):
    resealed(copied / "complete.json", change)
    with pytest.raises(RecordError, match=message) as caught:
        open_store(copied)
    assert str(copied / "complete.json") in str(caught.value)
    assert "run the command that wrote it again" in str(caught.value)


PLANS = {
    "no shards": (lambda p: p.pop("shards"), "lacks shards"),
    "kind": (lambda p: p.update(kind="songs"), "unknown kind 'songs'"),
    "ids": (lambda p: p["shards"][0].__setitem__(0, 7), "shards that are no lists of ids"),
    "shard": (lambda p: p["shards"].__setitem__(0, "abc"), "shards that are no lists of ids"),
    "sources": (lambda p: p["sources"].update(corpus=3), "a source without a digest"),
}


@pytest.mark.parametrize(("change", "message"), PLANS.values(), ids=PLANS)
def test_a_plan_of_another_form_is_refused(copied, change, message):
    resealed(copied / "plan.json", change)
    with pytest.raises(RecordError, match=f"plan.json: .*{message}"):
        open_store(copied)


SIDECARS = {
    "entries": (lambda s: s.pop("entries"), "lacks entries"),
    "entry": (lambda s: s["entries"][0].pop("utterance_id"), "lacks utterance_id"),
    "rejection": (lambda s: s["rejections"].append({"utterance_id": "x"}), "lacks reason"),
    "size": (lambda s: s.update(size_bytes="1"), "holds a text as size_bytes"),
}


@pytest.mark.parametrize(("change", "message"), SIDECARS.values(), ids=SIDECARS)
def test_a_sidecar_of_another_form_is_refused(prepared, copied, change, message):
    path = next((copied / "shards").glob("*.json"))
    resealed(path, change)
    with pytest.raises(RecordError, match="was changed after the store was finished"):
        open_store(copied)
    store = Store(copied, prepared["test"].plan, prepared["test"].summary, prepared["test"].marker)
    with pytest.raises(RecordError, match=f"{path.name}: .*{message}"):
        list(store.records())


def test_a_shard_too_many_is_named(copied):
    """A glob over the folder, as tf.data users write it, would read its records, too."""
    first = sorted((copied / "shards").glob("*.tfrecord"))[0]
    extra = first.with_name("utterances-00000-of-00009.tfrecord")
    shutil.copy(first, extra)
    for opened in (open_store, open_verified):
        with pytest.raises(RecordError, match=f"holds 1 shards .* such as {extra.name}"):
            opened(copied)
    extra.unlink()
    open_verified(copied)


def test_an_index_whose_rows_lack_a_field_is_refused(prepared, copied):
    rows = [json.loads(line) for line in (copied / "index.jsonl").read_text().splitlines()]
    del rows[2]["shard"]
    (copied / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = Store(copied, prepared["test"].plan, prepared["test"].summary, prepared["test"].marker)
    with pytest.raises(RecordError, match="index.jsonl: line 3 lacks shard"):
        _ = store.index


@pytest.mark.parametrize("method", ["exists", "read_bytes", "stat", "open"])
def test_a_store_that_may_not_be_read_needs_no_repair(prepared, monkeypatch, method):
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(*((builtins, "open") if method == "open" else (Path, method)), refused)
    with pytest.raises(RecordError, match="Permission denied .check the permissions there"):
        open_verified(prepared["test"].directory)
