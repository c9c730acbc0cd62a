"""Four peers settle an epoch over an in-memory network and the embedded chain; time is the test's own."""

import time

import pytest

from swarm.chain.client import Chain
from swarm.chain.launch import start_node
from swarm.chain.registry import Terms, deploy
from swarm.chain.settlements import Settlements
from swarm.events import Emitter
from swarm.identity.key import Identity
from swarm.journal.journal import Journal
from swarm.network.announcements import encode_record, make
from swarm.round.clock import Clock
from swarm.round.records import StageNote
from swarm.round.wire import note_bytes
from swarm.settlement.counting import Counting
from swarm.settlement.epochs import Epochs, proposers
from swarm.settlement.papers import Papers
from swarm.settlement.recomputation import Recomputation
from swarm.simulate.network import Ether, SimulatedNetwork
from tests.round.conftest import SEED, SWARM, make_bench

EPOCH_S = 2
IDENTITIES = [Identity(bytes([n]) * 32) for n in range(1, 5)]


@pytest.fixture(scope="module")
def bench():
    bench = make_bench(4)
    bench.outcomes = [bench.play(), bench.play()]
    return bench


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    running = start_node(tmp_path_factory.mktemp("chain"))
    yield running
    running.stop()


class Peer:
    """One peer's part in counting an epoch."""

    def __init__(self, place, bench, identity, network, registry, epochs, epoch):
        self.identity = identity
        self.said = []
        self.posted = []
        self.place = (place, bench, identity, network, registry, epochs, epoch)
        self.journal = Journal(place / f"{identity.address}.sqlite")
        if not self.journal.last_round():
            for number, outcomes in enumerate(bench.outcomes):
                outcome = outcomes[identity.peer_id]
                self.journal.commit_round(
                    number, number + 1, started=0, finished=0, seed=SEED, checkpoint="", report={},
                    records=outcome.records, audits=outcome.audits,
                )  # fmt: skip
        self.chain = Settlements(registry)
        papers = Papers(network, self.journal, SWARM, fetch_s=1)
        self.counting = Counting(
            epoch,
            identity=identity,
            epochs=epochs,
            journal=self.journal,
            papers=papers,
            chain=self.chain,
            recomputation=Recomputation(
                swarm=SWARM, recipe=bench.recipe, epochs=epochs, journal=self.journal, papers=papers,
                chain=self.chain, seed_of=lambda number: SEED, owners=lambda number, peers: {},
            ),
            seed=SEED,
            post=lambda epoch, votes: self.posted.append(votes),
            emit=Emitter(self.said.append, identity.peer_id[-4:]),
        )  # fmt: skip

    def again(self):
        """The same peer after a restart."""
        self.journal.close()
        return Peer(*self.place)

    def states(self):
        return [event["state"] for event in self.said]


@pytest.fixture
def counted(tmp_path, bench, node):
    """Four peers that are active for an epoch, in the order in which they propose."""
    chain = Chain(node.url)
    founder = IDENTITIES[0]
    chain.faucet(founder.address)
    terms = Terms(b"\x11" * 32, int(time.time()) - 10, 2, epoch_seconds=EPOCH_S, challenge_seconds=1)
    registry = deploy(chain, founder, terms)
    for identity in IDENTITIES:
        registry.register(identity)
    settlements = Settlements(registry)
    epoch = registry.view("currentEpoch")  # the registrations may have been spread over two
    while settlements.active_count(epoch) < 4:
        epoch += 1
    epochs = Epochs(Clock(terms.genesis, bench.recipe.timing), EPOCH_S)
    order = proposers(SEED, [identity.peer_id for identity in IDENTITIES])
    ether = Ether(SWARM)  # of its own, so that nobody hears what was said in another test
    networks = [SimulatedNetwork(ether, identity) for identity in IDENTITIES]
    peers = [
        Peer(tmp_path, bench, identity, network, registry, epochs, epoch)
        for identity, network in zip(IDENTITIES, networks, strict=True)
    ]
    yield sorted(peers, key=lambda peer: order.index(peer.identity.peer_id)), epochs, epoch, registry
    for peer in peers:
        peer.journal.close()
    ether.close()


def step(peers, at):
    for peer in peers:
        peer.counting.step(at)


def publish(peers, epochs, epoch):
    """Everybody says what it has seen."""
    step(peers, epochs.counted_from(epoch))


def test_the_proof_of_one_peer_costs_the_offender_its_round_with_all(counted):
    peers, epochs, epoch, _ = counted
    witness, *_, offender = peers
    said = {(row.stage, row.peer_id): row.announcement for row in witness.journal.records(0)}
    other = note_bytes(StageNote(sha256="ab" * 32, size=1, groups=0))
    second = make(offender.identity, SWARM, "0/answer", other, expiry_ms=2_000_000_000_000)
    name = offender.identity.peer_id
    both = said["answer", name], encode_record(second)
    assert witness.journal.keep_equivocation(0, "0/answer", name, *both, 0.0)
    publish(peers, epochs, epoch)
    step(peers, epochs.proposed_from(epoch))
    assert [peer.states()[-1] for peer in peers] == ["signed"] * 4, "all find the same from the manifests"
    statement = peers[1].counting.result.statement
    worth = {(record.round, record.stage): record.points for record in statement.records if record.author == name}
    assert {stage: worth[0, stage] for stage in ("answer", "critique", "revise")} == dict.fromkeys(
        ("answer", "critique", "revise")
    )
    assert worth[1, "answer"] > 0


def test_the_first_proposes_the_others_sign_and_the_first_posts(counted):
    peers, epochs, epoch, registry = counted
    publish(peers, epochs, epoch)
    assert all(peer.states() == [] for peer in peers), "nobody proposes before all had time to say what they saw"
    first_turn = epochs.proposed_from(epoch)
    step(peers, first_turn)
    assert [peer.states() for peer in peers] == [["proposed", "signed"], ["signed"], ["signed"], ["signed"]]
    assert len({peer.counting.result.outcome for peer in peers}) == 1
    assert peers[0].posted == []  # there was no quorum yet when it was its turn
    step(peers, first_turn + 1)
    assert [len(peer.posted) for peer in peers] == [1, 0, 0, 0]
    while registry.view("currentEpoch") <= epoch:
        time.sleep(0.2)
    chain = peers[0].chain
    registry.chain.send(peers[0].identity, chain.post(epoch, peers[0].posted[0]))
    assert chain.of(epoch).outcome == peers[0].counting.result.outcome
    assert chain.before(epoch + 1).epoch == epoch and chain.before(epoch) is None


def test_the_next_in_line_posts_what_the_first_does_not(counted):
    peers, epochs, epoch, _ = counted
    publish(peers, epochs, epoch)
    at = epochs.proposed_from(epoch)
    step(peers, at)
    others = peers[1:]
    step(others, at + 1)
    assert not any(peer.posted for peer in others)
    step(others, at + 1 + epochs.term_s)
    assert [len(peer.posted) for peer in others] == [1, 0, 0]


def test_the_next_in_line_proposes_when_the_first_is_silent(counted):
    peers, epochs, epoch, _ = counted
    publish(peers, epochs, epoch)
    others = peers[1:]
    step(others, epochs.proposed_from(epoch) + 0.9 * epochs.term_s)
    assert all(peer.states() == [] for peer in others)
    step(others, epochs.proposed_from(epoch) + 1.1 * epochs.term_s)
    assert [peer.states() for peer in others] == [["proposed", "signed"], ["signed"], ["signed"]]


def test_a_false_proposal_is_refused_and_the_next_one_signed(counted, monkeypatch):
    peers, epochs, epoch, _ = counted
    publish(peers, epochs, epoch)
    liar, *honest = peers
    truth = liar.counting._recomputation.settle

    def lie(basis, manifests):
        found = truth(basis, manifests)
        return found.model_copy(update={"points": {**found.points, liar.identity.peer_id: 10**9}})

    monkeypatch.setattr(liar.counting._recomputation, "settle", lie)
    step(peers, epochs.proposed_from(epoch))
    assert [peer.states() for peer in honest] == [["refused"]] * 3
    assert "do not follow from the records" in honest[0].said[0]["what"]
    step(peers, epochs.proposed_from(epoch) + 1.1 * epochs.term_s)
    assert [peer.states() for peer in honest] == [["refused", "proposed", "signed"], *[["refused", "signed"]] * 2]
    for turn in (2, 4):
        step(honest, epochs.proposed_from(epoch) + turn * epochs.term_s)
    votes = honest[0].posted[0]
    assert {vote.peer_id for vote in votes} == {peer.identity.peer_id for peer in honest}, "three of four are a quorum"


def test_without_a_quorum_nothing_is_posted(counted):
    peers, epochs, epoch, _ = counted
    publish(peers[:2], epochs, epoch)
    for turn in range(6):
        step(peers[:2], epochs.proposed_from(epoch) + turn * epochs.term_s)
    assert all(peer.posted == [] for peer in peers)
    assert any("2 active peers say what they saw" in event["what"] for event in peers[0].said)


def test_after_a_restart_a_peer_keeps_to_its_vote(counted):
    peers, epochs, epoch, _ = counted
    publish(peers, epochs, epoch)
    step(peers, epochs.proposed_from(epoch))
    voted = peers[1].counting.result.outcome
    peers[1] = peers[1].again()
    peers[1].counting.step(epochs.counted_from(epoch))
    assert peers[1].counting.result.outcome == voted and peers[1].states() == ["signed"]
    assert peers[1].journal.keep_vote(epoch, "00" * 32) == voted.data_hash.hex(), "no second vote, whatever happens"


def test_false_votes_are_not_counted(counted):
    peers, epochs, epoch, _ = counted
    publish(peers, epochs, epoch)
    step(peers, epochs.proposed_from(epoch))
    slot = f"epoch/{epoch}/vote"
    forged = peers[0].counting._papers._network.read(slot)
    stolen = forged[peers[0].identity.peer_id].value  # somebody else's signature
    peers[1].counting._papers._network.announce(slot, stolen, 60)
    votes = peers[2].counting.votes()[peers[2].counting.result.outcome]
    assert {vote.peer_id for vote in votes} == {peers[n].identity.peer_id for n in (0, 2, 3)}
