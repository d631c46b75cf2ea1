"""Reading ahead in a thread: order, errors, and an end when nobody reads any more."""

import threading

import pytest

from corrigible._utils.parallel import read_ahead


def test_items_come_in_order():
    assert list(read_ahead(range(50))) == list(range(50))
    assert list(read_ahead([])) == []


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("the second")

    found = read_ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="the second"):
        next(found)


def test_the_thread_ends_when_nobody_reads():
    made = []

    def items():
        for i in range(1000):
            made.append(i)
            yield i

    before = threading.active_count()
    found = read_ahead(items())
    assert next(found) == 0
    found.close()
    assert threading.active_count() == before
    assert len(made) <= 2


def test_the_next_item_is_made_while_one_is_used():
    asked = threading.Event()

    def items():
        yield 1
        asked.set()
        yield 2

    for item in read_ahead(items()):
        if item == 1:
            assert asked.wait(timeout=30)
