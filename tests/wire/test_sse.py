from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import EVENT_LIMIT, EventSplitter, EventTooLarge, comments, event_name, payload

EVENTS = [
    (b"data: a\n\n", b"a"),
    (b"data:a\n\n", b"a"),
    (b"data:  a\n\n", b" a"),
    (b"data: a\r\n\r\n", b"a"),
    (b"data: a\r\r", b"a"),
    (b"data: a\ndata: b\n\n", b"a\nb"),
    (b"data: a\r\ndata:\r\ndata: b\r\n\r\n", b"a\n\nb"),
    (b"data\n\n", b""),
    (b": comment\n\n", b""),
    (b"event: error\ndata: {}\nid: 7\n\n", b"{}"),
    (b"\xef\xbb\xbfdata: a\n\n", b"a"),
    (b"\ndata: a\n\n", b"a"),
    (b"unknown: x\nno colon\ndata: a\n\n", b"a"),
    ("data: é漢😀\n\n".encode(), "é漢😀".encode()),
]


@pytest.mark.parametrize(("event", "data"), EVENTS)
def test_payload(event: bytes, data: bytes) -> None:
    assert payload(event) == data


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (b": comment\n\n", b": comment\n\n"),
        (b": a\r\n: b\r\n\r\n", b": a\r\n: b\r\n\r\n"),
        (b"data:\n\n", b""),
        (b"data\n\n", b""),
        (b"retry: 3000\n\n", b""),
        (b"event: ping\nid: 7\n\n", b""),
        (b": a\nretry: 3000\n: b\n\n", b": a\n: b\n\n"),
    ],
)
def test_of_an_event_without_data_only_comments_are_told(event: bytes, told: bytes) -> None:
    assert payload(event) == b""
    assert comments(event) == told


def test_event_name() -> None:
    assert event_name(b"event: error\ndata: x\n\n") == b"error"
    assert event_name(b'data: {"event": 1}\n\n') == b""


def split(pieces: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events, splitter.rest()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


LINE_END = st.sampled_from([b"\n", b"\r\n"])
LINES = st.sampled_from([b"data: {}", b"data: x", b": c", b"event: e", "data: é漢".encode(), b"data:"])


@given(
    st.lists(st.tuples(st.lists(LINES, min_size=1, max_size=3), LINE_END), max_size=6),
    st.lists(st.integers(min_value=0), max_size=8),
    st.sampled_from([b"", b"data: unfinished", b"\r"]),
)
def test_cuts_change_nothing(blocks: list[tuple[list[bytes], bytes]], places: list[int], tail: bytes) -> None:
    whole = [b"".join(line + end for line in lines) + end for lines, end in blocks]
    data = b"".join(whole) + tail
    expected = (whole, tail)
    assert split([data]) == expected
    assert split(cut(data, places)) == expected
    assert split([bytes([byte]) for byte in data]) == expected


def test_an_endless_line_is_refused_and_held_only_once() -> None:
    splitter = EventSplitter()
    for _ in range(EVENT_LIMIT // 65536):
        assert splitter.feed(b"x" * 65536) == []
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")
