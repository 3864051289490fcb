from __future__ import annotations

import json

import pytest

SEARCHES = "/v1/collections/images/searches"
DONE = {
    "id": "s1",
    "state": "done",
    "hits": [
        {
            "id": "shoe-7",
            "score": 0.98765,
            "url": "http://a.example/7.jpg",
            "payload": {"dx": "nv", "_image": {"bytes": 12345}},
        }
    ],
}


@pytest.fixture
def found(api, answer):
    api.on("POST", SEARCHES, answer(DONE))
    return api


def test_hits_are_a_table_of_score_id_url_and_payload(found, run):
    result = run("search", "shoe-1")
    assert result.exit_code == 0
    for word in ("0.988", "shoe-7", "http://a.example/7.jpg", "dx=nv"):
        assert word in result.stdout
    assert "12345" not in result.stdout


def test_an_id_is_searched_by_id_and_the_answer_waited_for(found, run):
    run("search", "shoe-1", "--limit", "3", "--filter", '{"must": []}', "--score-threshold", "0.5")
    (sent,) = found.received
    assert json.loads(sent.body) == {
        "id": "shoe-1",
        "limit": 3,
        "offset": 0,
        "filter": {"must": []},
        "score_threshold": 0.5,
    }
    assert sent.headers["Prefer"] == "wait=10"


def test_a_url_is_searched_by_url(found, run):
    run("search", "https://a.example/q.jpg")
    assert json.loads(found.received[0].body)["url"] == "https://a.example/q.jpg"


def test_a_file_is_uploaded_with_its_query(found, run, tmp_path):
    (tmp_path / "q.jpg").write_bytes(b"a picture")
    assert run("search", str(tmp_path / "q.jpg"), "--limit", "2").exit_code == 0
    parts = found.received[0].parts
    assert parts["image"][0].get_payload(decode=True) == b"a picture"
    assert json.loads(parts["query"][0].get_payload(decode=True)) == {"limit": 2, "offset": 0}


def test_a_slow_search_is_asked_for_until_it_is_done(api, run, answer):
    pending = {"id": "s1", "state": "pending"}
    api.on("POST", SEARCHES, answer(pending, 202, {"Location": "/v1/searches/s1"}))
    api.on("GET", "/v1/searches/s1", answer(pending), answer(DONE))
    result = run("search", "shoe-1", "--json")
    assert json.loads(result.stdout) == DONE


def test_a_failed_search_says_why(api, run, answer):
    failed = {"detail": "The file is no image.", "code": "not_an_image", "status": 422}
    api.on("POST", SEARCHES, answer({"id": "s1", "state": "failed", "problem": failed}))
    result = run("search", "https://a.example/q.jpg")
    assert result.exit_code == 1
    assert "The file is no image. (not_an_image)" in result.stderr


def test_a_filter_that_is_no_json_is_misuse(found, run):
    result = run("search", "shoe-1", "--filter", "dx=nv")
    assert result.exit_code == 2
    assert "--filter" in result.stderr
    assert not found.received


def test_a_table_that_no_terminal_reads_is_not_folded(api, run, answer):
    hit = {"id": "i" * 300, "score": 1.0, "payload": {}}
    api.on("POST", SEARCHES, answer({**DONE, "hits": [hit]}))
    assert "i" * 300 in run("search", "shoe-1").stdout


def test_a_payload_cannot_drive_the_terminal(api, run, answer):
    hit = {"id": "a\x1b[2Jb", "score": 1.0, "payload": {"t": "[red]x[/red]\x07"}}
    api.on("POST", SEARCHES, answer({**DONE, "hits": [hit]}))
    result = run("search", "shoe-1")
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "[red]x[/red]" in result.stdout


GROUPED = {
    "id": "s1",
    "state": "done",
    "hits": [],
    "groups": [
        {
            "id": "B07-shoe",
            "count": 8,
            "hits": [DONE["hits"][0], {"id": "shoe-8", "score": 0.5, "payload": {}}],
        }
    ],
}


def test_several_files_are_one_question(found, run, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    assert run("search", str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"), "--text", "red").exit_code == 0
    parts = found.received[0].parts
    assert [part.get_payload(decode=True) for part in parts["image"]] == [b"a.jpg", b"b.jpg"]
    assert json.loads(parts["query"][0].get_payload(decode=True))["text"] == "red"


def test_every_option_is_sent_as_the_api_spells_it(found, run):
    run(
        *("search", "--like", "shoe-1", "--like", "https://a.example/q.jpg", "--unlike", "shoe-2"),
        *("--exclude", "dx=nv", "--exclude", "age=55", "--exclude", "age=60", "--exclude", 'zip="55"'),
        *("--group-by", "group", "--group-size", "3", "--exact", "--no-placeholders"),
    )
    assert json.loads(found.received[0].body) == {
        "like": ["shoe-1", "https://a.example/q.jpg"],
        "unlike": ["shoe-2"],
        "exclude": {"dx": "nv", "age": [55, 60], "zip": "55"},
        "group_by": "group",
        "group_size": 3,
        "exact": True,
        "placeholders": False,
        "limit": 10,
        "offset": 0,
    }


def test_a_part_of_the_picture_is_asked_by(found, run):
    run("search", "shoe-1", "--crop", "0.1, 0.2,0.6,1")
    assert json.loads(found.received[0].body)["crop"] == [0.1, 0.2, 0.6, 1]


def test_groups_are_a_table_with_how_many_matched(api, run, answer):
    api.on("POST", SEARCHES, answer(GROUPED))
    rows = run("search", "shoe-1", "--group-by", "group").stdout.splitlines()
    assert rows[0].split() == ["group", "count", "score", "id", "url", "payload"]
    assert rows[1].split()[:4] == ["B07-shoe", "8", "0.988", "shoe-7"]
    assert rows[2].split()[:4] == ["B07-shoe", "8", "0.500", "shoe-8"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "--text or --like"),
        (("shoe-1", "shoe-2"), "--like"),
        (("shoe-1", "--crop", "0.1,0.2"), "--crop"),
        (("shoe-1", "--exclude", "dx"), "--exclude"),
        (("shoe-1", "--exclude", "=nv"), "--exclude"),
    ],
)
def test_a_question_that_cannot_be_asked_is_misuse(found, run, arguments, word):
    result = run("search", *arguments)
    assert result.exit_code == 2
    assert word in result.stderr
    assert not found.received
