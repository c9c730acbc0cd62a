"""Scripted adversaries against the real judging: each defence holds, and the attack works where it is switched off."""

import json
import random
from functools import cache

import pytest

from swarm.simulate.command import main
from swarm.simulate.judging import SWARM, Settings, _Simulation, simulate
from swarm.simulate.judging_measures import Judged, ceiling, kendall, majority_rule, mean_rule, naive_points
from swarm.simulate.judging_peers import ADVERSARIES
from swarm.simulate.network import Ether, SimulatedNetwork

PEERS, SHARE, ROUNDS = 10, 0.4, 24


@cache
def result(adversary, share=SHARE, without=()):
    return simulate(Settings(PEERS, adversary, share, ROUNDS, seed=1, without=frozenset(without)))


@pytest.mark.parametrize("adversary", sorted(ADVERSARIES))
def test_cheating_does_not_pay(adversary):
    found = result(adversary).real
    most = 1.0 if adversary == "sleeper" else 0.25  # a sleeper's honest half is paid as such
    assert found.points_per_work.adversary < most * found.points_per_work.honest
    assert found.jury_accuracy > 0.85 and found.kendall > 0.6


@pytest.mark.parametrize("adversary", ["always-yes", "random", "clique", "lazy-clique", "sybil"])
def test_without_audits_cheating_pays(adversary):
    """The same records under the rules that know no audits."""
    naive = result(adversary).naive.values()
    assert all(one.points_per_work.adversary > 0.75 * one.points_per_work.honest for one in naive)
    if adversary != "random":  # noise averages out over a dozen judges: it is only paid too well
        assert all(one.jury_accuracy < 0.85 or one.kendall < 0.6 for one in naive)


@pytest.mark.parametrize(
    ("adversary", "defence"),
    [("copycat", "commit"), ("griefer", "reveal"), ("equivocator", "consistency"), ("audit-guesser", "seals")],
)
def test_without_its_defence_an_attack_pays(adversary, defence):
    held, fallen = result(adversary).real.points_per_work, result(adversary, without=(defence,)).real.points_per_work
    assert fallen.adversary > 2 * held.adversary + 0.05


def test_without_extraction_injections_reach_the_judges():
    held, fallen = result("injector").real, result("injector", without=("extraction",)).real
    assert held.jury_accuracy > fallen.jury_accuracy + 0.03


def test_the_same_settings_give_the_same_result():
    settings = Settings(6, "clique", 0.3, 6, seed=3)
    assert simulate(settings) == simulate(settings)


def test_a_recipe_with_a_verifier_can_be_simulated(capsys):
    assert main(["--peers", "4", "--rounds", "4", "--share", "0.25", "--recipe", "tiny", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["points_per_work"]["honest"] > found["points_per_work"]["adversary"]
    assert set(found["naive"]) == {"mean", "majority"}
    assert {"kendall", "jury_accuracy", "points_per_work"} <= set(found) & set(found["naive"]["mean"])


def test_bad_arguments_get_one_sentence(capsys):
    assert main(["--recipe", "nonsense"]) == 2
    assert "there is no recipe 'nonsense'" in capsys.readouterr().err


def test_kendall():
    assert kendall([1, 2, 3], [10, 20, 30]) == 1
    assert kendall([1, 2, 3], [3, 2, 1]) == -1
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(0.8165, abs=1e-4)
    assert kendall([1, 1], [1, 2]) is None


def test_naive_rules():
    label, agreement = majority_rule({"a": 3.0, "b": 1.0, "c": -2.0})
    assert label == 1 and agreement == {"a": 1, "b": 1, "c": 0}
    label, agreement = mean_rule({"a": 0.0, "b": 0.0})
    assert label == 0.5 and agreement == {"a": 1, "b": 1}
    one = Judged((0, "author", 0, 0), {"a": 5.0, "b": 5.0}, right=True)
    other = Judged((0, "author", 0, 1), {"a": -5.0, "b": -5.0}, right=False)
    labels, points = naive_points(majority_rule, [one, other])
    assert list(labels.values()) == [1, 0] and points == {"author": 0.5, "a": 1, "b": 1}


def test_naive_points_do_not_depend_on_the_order_of_what_was_judged():
    judged = [
        Judged((0, "author", task, 0), {"a": raw, "b": -0.3 * raw}, right=True)
        for task, raw in enumerate([0.1, 0.7, 1.3, 2.9, -1.7, 3.1, -0.2])
    ]
    orders = [random.Random(seed).sample(judged, len(judged)) for seed in range(50)]
    assert all(naive_points(mean_rule, order)[1] == naive_points(mean_rule, judged)[1] for order in orders)


def test_the_ceiling_is_what_honest_verdicts_allow():
    judged = [
        Judged((0, "a", 0, 0), {"honest": 2.0, "liar": -9.0}, True),
        Judged((0, "a", 1, 0), {"honest": -1.0, "liar": 9.0}, False),
        Judged((0, "a", 2, 0), {"honest": -2.0, "other": 0.5, "liar": 9.0}, True),
        Judged((0, "a", 3, 0), {"liar": -9.0}, True),
    ]
    assert ceiling(judged, {"honest", "other"}) == 2 / 3
    assert ceiling(judged[3:], {"honest"}) is None
    assert ceiling([], {"honest"}) is None


def test_a_simulation_tells_how_good_a_jury_could_be():
    found = result("griefer")
    assert found.as_json()["ceiling"] == round(found.ceiling, 4)
    assert found.real.jury_accuracy - 0.01 <= found.ceiling <= 1


class _Networked(_Simulation):
    """The same simulation with the real network of each peer, over libp2p in memory, in place of a table."""

    def __init__(self, settings, ether):
        self._ether = ether
        super().__init__(settings)

    def _place(self, who):
        seat = super()._place(who)
        network, put = SimulatedNetwork(self._ether, seat._identity), seat.put

        def put_in_both(data):  # the simulation looks on the table for who has revealed
            put(data)
            return network.put(data)

        seat.announce, seat.read, seat.put = network.announce, network.read, put_in_both
        seat.fetch_many = network.fetch_many
        return seat


def test_the_table_shows_what_the_network_does():
    settings = Settings(peers=6, adversary="clique", share=0.34, rounds=4, seed=2)
    ether = Ether(SWARM)
    try:
        networked = _Networked(settings, ether)
        found = networked.run()
        assert networked._table.said == {}, "nothing was said but over the network"
    finally:
        ether.close()
    assert found == simulate(settings)
