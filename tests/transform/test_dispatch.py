"""Which worker gets which objects, and where workers are started: values only."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from tritonforge.transform.cluster.dispatch import Dispatcher
from tritonforge.transform.cluster.placement import Node, Placement, WorkerDemand, plan_placements
from tritonforge.transform.run_state import InputObject


def objects(*keys: object) -> list[InputObject]:
    return [InputObject(f"in/{key}", str(key), None) for key in keys]


def keys(given_objects: list[InputObject]) -> list[str]:
    return [one.key for one in given_objects]


def test_a_worker_has_its_requests_in_flight_and_what_it_finished_in_two_seconds() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_worker("w", 8)
    assert dispatcher.list_free_windows(0.0) == [("w", 8)]
    dispatcher.assign("w", objects(*range(8)))
    assert dispatcher.list_free_windows(0.0) == []
    dispatcher.complete("w", [str(number) for number in range(8)], 1.0)
    assert dispatcher.list_free_windows(1.0) == [("w", 16)]
    assert dispatcher.list_free_windows(3.5) == [("w", 8)]


def test_a_worker_gets_neighbours_when_a_quarter_of_its_window_is_free() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_worker("w", 8)
    dispatcher.assign("w", objects(*range(8)))
    dispatcher.complete("w", ["0"], 10.0)
    dispatcher.assign("w", objects("x"))
    assert dispatcher.list_free_windows(13.0) == []
    dispatcher.complete("w", ["1"], 10.0)
    assert dispatcher.list_free_windows(13.0) == []
    dispatcher.complete("w", ["2"], 10.0)
    assert dispatcher.list_free_windows(13.0) == [("w", 2)]


def test_the_emptiest_worker_is_served_first() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_worker("busy", 8)
    dispatcher.add_worker("idle", 8)
    dispatcher.assign("busy", objects(1, 2, 3))
    assert dispatcher.list_free_windows(0.0) == [("idle", 8), ("busy", 5)]


def test_objects_of_a_lost_worker_go_to_others_before_new_ones_and_in_order() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_worker("lost", 4)
    dispatcher.add_worker("other", 4)
    dispatcher.assign("lost", objects(1, 2, 3))
    dispatcher.complete("lost", ["2"], 0.0)
    assert dispatcher.remove_worker("lost", is_lost=True) == []
    assert not dispatcher.is_idle
    assert keys(dispatcher.take_returned("other", 4)) == ["1", "3"]
    assert set(dispatcher.complete("other", ["1", "3"], 0.0)) == {"1", "3"}
    assert dispatcher.is_idle


def test_a_late_report_of_a_lost_worker_counts_for_nothing() -> None:
    dispatcher = Dispatcher()
    dispatcher.add_worker("lost", 4)
    dispatcher.assign("lost", objects(1))
    dispatcher.remove_worker("lost", is_lost=True)
    assert dispatcher.complete("lost", ["1"], 0.0) == {}
    assert dispatcher.find("1") is not None


def test_only_the_object_that_ends_its_workers_fails() -> None:
    """Its neighbours were lost with it; after the second time each is sent alone."""
    dispatcher = Dispatcher()
    waiting = objects("a", "bad", "b")
    failed: list[str] = []
    done: list[str] = []
    for number in range(10):
        worker = f"w{number}"
        dispatcher.add_worker(worker, 4)
        got = dispatcher.take_returned(worker, 4)
        if number == 0:
            dispatcher.assign(worker, waiting)
            got = waiting
        while got and "bad" not in keys(got):
            done += dispatcher.complete(worker, keys(got), 0.0)
            got = dispatcher.take_returned(worker, 4)
        failed += keys(dispatcher.remove_worker(worker, is_lost=True))
    assert failed == ["bad"]
    assert sorted(done) == ["a", "b"]
    assert dispatcher.is_idle


def test_a_worker_that_ends_as_asked_makes_no_object_suspicious() -> None:
    dispatcher = Dispatcher()
    for number in range(5):
        dispatcher.add_worker(f"w{number}", 4)
        if number == 0:
            dispatcher.assign("w0", objects(1, 2))
        else:
            assert keys(dispatcher.take_returned(f"w{number}", 4)) == ["1", "2"]
        assert dispatcher.remove_worker(f"w{number}", is_lost=False) == []


@given(st.lists(st.tuples(st.sampled_from(["send", "finish", "lose", "join"]), st.integers(0, 9)), max_size=200))
def test_every_object_is_with_one_worker_waits_or_is_accounted_for(events: list[tuple[str, int]]) -> None:
    """Whatever is lost, no object is lost or finished twice, and in the end all are accounted for."""
    dispatcher = Dispatcher()
    listing = deque(objects(*range(60)))
    workers: dict[str, list[str]] = {}
    accounted: list[str] = []
    started = 0

    def send(worker: str, free: int) -> None:
        got = dispatcher.take_returned(worker, free)
        if not got:
            got = [listing.popleft() for _ in range(min(free, len(listing)))]
            dispatcher.assign(worker, got)
        workers[worker] += keys(got)

    def finish(worker: str, count: int) -> None:
        done, workers[worker] = workers[worker][:count], workers[worker][count:]
        assert [*dispatcher.complete(worker, done, 0.0)] == done
        accounted.extend(done)

    for event, number in [*events, ("join", 0), *[("send", 0), ("finish", 60)] * 80]:
        names = sorted(workers)
        if event == "join" and len(workers) < 4:
            started += 1
            workers[f"w{started}"] = []
            dispatcher.add_worker(f"w{started}", 3)
        elif event == "lose" and names:
            name = names[number % len(names)]
            del workers[name]
            accounted += keys(dispatcher.remove_worker(name, is_lost=True))
        elif event == "send":
            for name, free in dispatcher.list_free_windows(0.0):
                send(name, free)
        elif event == "finish":
            for name in (
                names if number == 60 else names[number % len(names) : number % len(names) + 1] if names else ()
            ):
                finish(name, number or 1)
    assert not listing
    assert dispatcher.is_idle
    assert sorted(accounted, key=int) == [str(number) for number in range(60)]


def node(name: str, cpus: float = 8.0, gpus: float = 0.0) -> Node:
    return Node(name, name, cpus, gpus)


def test_one_worker_for_each_node_reserves_its_cpus() -> None:
    nodes = [node("a"), node("b", 4.0), node("without", 0.0)]
    placed = plan_placements(WorkerDemand(), nodes, [])
    assert [(one.node.id, one.cpus) for one in placed] == [("a", 8.0), ("b", 4.0)]
    assert plan_placements(WorkerDemand(), nodes, placed) == []
    joined = plan_placements(WorkerDemand(), [*nodes, node("c")], placed)
    assert [one.node.id for one in joined] == ["c"]


def test_a_number_of_workers_is_spread_over_the_nodes() -> None:
    placed = plan_placements(WorkerDemand(workers=3), [node("a"), node("b")], [])
    assert [(one.node.id, one.cpus) for one in placed] == [("a", 4.0), ("b", 4.0), ("a", 4.0)]


def test_a_worker_of_a_lost_node_is_replaced_where_cpus_are_free() -> None:
    demand = WorkerDemand(workers=2, cpus=2.0)
    placed = plan_placements(demand, [node("a"), node("b")], [])
    left = [one for one in placed if one.node.id == "a"]
    assert [one.node.id for one in plan_placements(demand, [node("a")], left)] == ["a"]
    assert plan_placements(demand, [node("a", 3.0)], left) == []


def test_workers_with_gpus_start_where_gpus_are_free_and_none_on_barred_nodes() -> None:
    nodes = [node("a", gpus=1.0), node("b")]
    assert [one.node.id for one in plan_placements(WorkerDemand(gpus=1.0), nodes, [])] == ["a"]
    assert plan_placements(WorkerDemand(gpus=1.0), nodes, [], {"a"}) == []
    reserved = [Placement(nodes[0], 1.0, 1.0)]
    assert plan_placements(WorkerDemand(workers=2, cpus=1.0, gpus=1.0), nodes, reserved) == []
