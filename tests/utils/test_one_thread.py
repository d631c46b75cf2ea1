from threadpoolctl import threadpool_info, threadpool_limits

from corrigible._utils.parallel import one_thread, parallel_map


def threads(_):
    return [pool["num_threads"] for pool in threadpool_info()]


def test_one_thread_holds_in_every_process_and_ends_with_the_block():
    with threadpool_limits(limits=2):
        outside = threads(0)
        with one_thread():
            assert set(threads(0)) == {1}
            assert all(set(found) == {1} for found in parallel_map(threads, [(i,) for i in range(4)], n_jobs=2))
        assert threads(0) == outside
    assert any(n > 1 for n in outside)


def test_outside_of_it_tasks_are_left_alone():
    with threadpool_limits(limits=2):
        assert parallel_map(threads, [(0,)]) == [threads(0)]
