from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

JOBS = "/v1/collections/images/jobs"
IMAGES = "/v1/collections/images/images"
IMPORTS = "/v1/collections/images/imports"


@pytest.fixture
def accepting(api, answer, job):
    """The API takes everything, and job j1 is done at the second look."""
    accepted = answer(job(state="queued", indexed=0, pending=3), 202)
    api.on("POST", JOBS, accepted)
    api.on("POST", IMAGES, accepted)
    api.on("POST", IMPORTS, accepted)
    api.on("GET", "/v1/jobs/j1", answer(job(state="running", indexed=1, pending=2)), answer(job()))
    return api


def test_a_csv_is_sent_as_it_is_with_its_columns_named(accepting, run, tmp_path):
    feed = tmp_path / "feed.csv"
    feed.write_bytes(b"Image,Uniq Id\nhttp://a.example/1.jpg,1\n")
    result = run("ingest", str(feed), "--url-column", "Image", "--id-column", "Uniq Id", "--separator", "|")
    assert result.exit_code == 0, result.output
    (sent,) = accepting.sent("POST", JOBS)
    assert sent.headers["Content-Type"] == "text/csv"
    assert sent.body == feed.read_bytes()
    assert sent.query == "url_column=Image&id_column=Uniq+Id&separator=%7C"
    assert "3 indexed, 0 unchanged, 0 failed" in result.stdout


def test_a_csv_with_options_of_an_import_is_left_to_a_worker(accepting, run, tmp_path):
    feed = tmp_path / "feed.csv"
    feed.write_bytes(b"Image,Price\nhttp://a.example/1.jpg,$5\n")
    options = ("--url-column", "Image", "--price", "Price", "--fill", "age=0", "--fraction", "0.1")
    assert run("ingest", str(feed), *options).exit_code == 0
    (sent,) = accepting.sent("POST", IMPORTS)
    assert json.loads(sent.parts["source"][0].get_payload(decode=True)) == {
        **{"url_column": "Image", "fraction": 0.1, "prices": ["Price"], "fill": {"age": 0}}
    }
    (file,) = sent.parts["file"]
    assert (file.get_filename(), file.get_payload(decode=True)) == ("feed.csv", feed.read_bytes())


@pytest.mark.parametrize("name", ["products.parquet", "samples.TAR"])
def test_a_feed_that_only_a_worker_reads_is_uploaded(accepting, run, tmp_path, name):
    (tmp_path / name).write_bytes(b"bytes")
    assert run("ingest", str(tmp_path / name)).exit_code == 0
    (sent,) = accepting.sent("POST", IMPORTS)
    assert sent.parts["file"][0].get_payload(decode=True) == b"bytes"


def test_a_feed_at_a_url_is_named_and_any_other_url_is_an_image(accepting, run):
    feed = "https://shop.example/export/products.csv?key=1"
    assert run("ingest", feed, "http://a.example/1.jpg", "--id-column", "Uniq Id").exit_code == 0
    (sent,) = accepting.sent("POST", IMPORTS)
    assert json.loads(sent.body) == {"files": feed, "id_column": "Uniq Id"}
    assert len(accepting.sent("POST", JOBS)) == 1


def test_a_data_set_is_named(accepting, run):
    options = (
        "--split",
        "test",
        "--image-column",
        "image",
        "--id-column",
        "image_id",
        "--group-column",
        "lesion_id",
    )
    result = run(
        "ingest", "--dataset", "marmal88/skin_cancer", *options, "--fill", "age=0", "--sync", "--force"
    )
    assert result.exit_code == 0, result.output
    (sent,) = accepting.sent("POST", IMPORTS)
    assert json.loads(sent.body) == {
        "dataset": "marmal88/skin_cancer",
        "split": "test",
        "image_column": "image",
        "id_column": "image_id",
        "group_column": "lesion_id",
        "fill": {"age": 0},
        "sync": True,
        "force": True,
    }


def test_a_sync_of_a_list_is_asked_for(accepting, run, tmp_path):
    (tmp_path / "items.ndjson").write_text("{}\n")
    assert run("ingest", str(tmp_path / "items.ndjson"), "--sync", "--sync-share", "0.5").exit_code == 0
    (sent,) = accepting.sent("POST", JOBS)
    assert sent.query == "sync=true&sync_share=0.5"


@pytest.mark.parametrize(
    ("sync", "removed", "words", "code"),
    [
        ({"absent": 2, "share": 0.1, "refused": None}, 2, "2 removed", 0),
        (
            {"absent": 9, "share": 0.9, "refused": "9 of 10 images are absent."},
            0,
            "Nothing removed: 9 of 10",
            1,
        ),
    ],
)
def test_what_a_sync_removed_is_said(accepting, run, answer, job, sync, removed, words, code):
    accepting.on("GET", "/v1/jobs/j1", answer(job(removed=removed, sync=sync)))
    result = run("ingest", "http://a.example/1.jpg", "--sync")
    assert (result.exit_code, words in result.stdout) == (code, True)


def test_an_import_that_could_not_be_read_says_why(accepting, run, answer, job):
    ended = job(state="cancelled", last_error="`products.csv`: Row 2 is not UTF-8.")
    accepting.on("GET", "/v1/jobs/j1", answer(ended))
    result = run("ingest", "https://shop.example/products.csv")
    assert (result.exit_code, "Row 2 is not UTF-8" in result.stdout) == (1, True)


@pytest.mark.parametrize("names", [["a.csv", "b.csv"], ["a.jpg"], ["a.csv", "a.jpg"]])
def test_a_sync_takes_one_source_that_names_all(accepting, run, tmp_path, names):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    result = run("ingest", *(str(tmp_path / name) for name in names), "--sync")
    assert (result.exit_code, "--sync takes one" in result.stderr) == (2, True)
    assert not accepting.received


@pytest.mark.parametrize(
    "option", [("--limit", "5"), ("--price", "a"), ("--fill", "a=1"), ("--id-column", "a")]
)
def test_options_of_a_feed_without_one_are_misuse(accepting, run, tmp_path, option):
    (tmp_path / "a.jpg").write_bytes(b"x")
    result = run("ingest", str(tmp_path / "a.jpg"), "http://a.example/1.jpg", *option)
    assert (result.exit_code, "none of the sources is one" in result.stderr) == (2, True)
    assert not accepting.received


def test_nothing_to_index_is_misuse(accepting, run):
    result = run("ingest")
    assert (result.exit_code, "--dataset" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("items.ndjson", "application/x-ndjson"),
        ("items.jsonl", "application/x-ndjson"),
        ("items.json", "application/json"),
        ("items.tsv", "text/tab-separated-values"),
    ],
)
def test_a_list_of_items_is_sent_under_its_own_type(accepting, run, tmp_path, name, content_type):
    (tmp_path / name).write_text('{"items": []}')
    assert run("ingest", str(tmp_path / name)).exit_code == 0
    (sent,) = accepting.sent("POST", JOBS)
    assert (sent.headers["Content-Type"], sent.query) == (content_type, "")


def test_urls_become_one_job(accepting, run):
    assert run("ingest", "http://a.example/1.jpg", "https://a.example/2.jpg").exit_code == 0
    (sent,) = accepting.sent("POST", JOBS)
    assert [json.loads(line) for line in sent.body.splitlines()] == [
        {"url": "http://a.example/1.jpg"},
        {"url": "https://a.example/2.jpg"},
    ]


def test_a_folder_is_uploaded_in_requests_of_32_and_each_image_keeps_its_path(accepting, run, tmp_path):
    (tmp_path / "shoes").mkdir()
    for number in range(40):
        (tmp_path / "shoes" / f"{number:02}.jpg").write_bytes(b"bytes %d" % number)
    (tmp_path / "notes.txt").write_text("no image")
    assert run("ingest", str(tmp_path)).exit_code == 0
    first, second = accepting.sent("POST", IMAGES)
    assert [len(sent.parts["image"]) for sent in (first, second)] == [32, 8]
    names = [part["file"] for sent in (first, second) for part in json.loads(payload_of(sent))]
    assert names == [f"shoes/{number:02}.jpg" for number in range(40)]
    assert second.parts["image"][7].get_payload(decode=True) == b"bytes 39"


def payload_of(sent):
    return sent.parts["payload"][0].get_payload(decode=True)


def test_another_collection_is_named_in_the_path(api, run, answer, job):
    api.on("POST", "/v1/collections/my%20shoes/jobs", answer(job(), 202))
    assert run("ingest", "http://a.example/1.jpg", "--collection", "my shoes", "--no-wait").exit_code == 0


def test_failed_items_are_counted_by_code_and_end_with_exit_code_1(accepting, run, answer, job):
    ended = job(indexed=1, failed=2, failures={"not_an_image": 1, "http_status": 1})
    accepting.on("GET", "/v1/jobs/j1", answer(ended))
    result = run("ingest", "http://a.example/1.jpg")
    assert result.exit_code == 1
    assert "1 indexed, 0 unchanged, 2 failed" in result.stdout
    assert "not_an_image" in result.stdout
    assert "lookalike jobs j1 --failures" in result.stdout


def test_json_is_one_line_a_job_and_nothing_else_on_stdout(accepting, run, tmp_path, answer, job):
    accepting.on("POST", JOBS, answer(job(), 202), answer(job(id="j2"), 202))
    accepting.on("GET", "/v1/jobs/j2", answer(job(id="j2")))
    (tmp_path / "items.ndjson").write_text("{}\n")
    result = run("ingest", str(tmp_path / "items.ndjson"), "http://a.example/1.jpg", "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["j1", "j2"]


def test_no_wait_leaves_once_the_job_is_accepted(accepting, run):
    result = run("ingest", "http://a.example/1.jpg", "--no-wait")
    assert result.exit_code == 0
    assert "j1" in result.stderr
    assert not accepting.sent("GET", "/v1/jobs/j1")


@pytest.mark.parametrize("name", ["missing.csv", "notes.txt", "empty"])
def test_a_source_that_is_none_is_refused_before_anything_is_sent(accepting, run, tmp_path, name):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    result = run("ingest", "http://a.example/1.jpg", str(tmp_path / name))
    assert result.exit_code == 2
    assert name in result.stderr
    assert not accepting.received


def test_the_key_is_sent(accepting, run):
    run("ingest", "http://a.example/1.jpg", "--no-wait", env={"LOOKALIKE_API_KEY": "s3cret"})
    assert accepting.received[0].headers["Authorization"] == "Bearer s3cret"


def test_a_terminal_gets_a_bar(accepting, run):
    result = run("ingest", "http://a.example/1.jpg", env={"FORCE_COLOR": "1"})
    assert "1 of 3 done, 0 failed" in result.stderr
    assert "━" in result.stderr


def test_elsewhere_a_line_tells_now_and_then(accepting, run, answer, job, monkeypatch):
    monkeypatch.setattr("cli.progress._LINE_SECONDS", 0)
    running = job(
        state="running", indexed=1000, pending=9000, total=10_000, images_per_second=120.4, eta_seconds=75
    )
    counting = job(state="accepting", total=None)
    accepting.on("GET", "/v1/jobs/j1", answer(counting), answer(running), answer(job()))
    said = run("ingest", "http://a.example/1.jpg").stderr
    assert "of ? done" in said
    assert "1,000 of 10,000 done, 0 failed, 120 images/s, 0:01:15 left" in said


def test_ctrl_c_leaves_the_job_running_and_says_how_to_see_it(accepting, answer, job, eventually):
    accepting.on("GET", "/v1/jobs/j1", answer(job(state="running", indexed=1, pending=2)))
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "ingest", "http://a.example/1.jpg"],
        env={**os.environ, "LOOKALIKE_URL": accepting.url},
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: accepting.sent("GET", "/v1/jobs/j1"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "lookalike jobs j1 --watch" in said
    assert not accepting.sent("DELETE", "/v1/jobs/j1")
