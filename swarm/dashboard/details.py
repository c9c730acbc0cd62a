"""One round in full, rebuilt from recipe, seed and records as any outsider can."""

from collections.abc import Mapping
from typing import Any

from swarm.dashboard.books import RoundBook
from swarm.judging.jury import Vote, decide, vote_of
from swarm.recipe.verifiers import has_truth
from swarm.round.clock import lifetime_s
from swarm.round.records import StageNote

Json = dict[str, Any]

MAX_FEED = 400


class RoundPage:
    """The page of one round; `names` by peer id."""

    def __init__(self, book: RoundBook, names: Mapping[str, str]) -> None:
        self._round = book
        self._names = names

    def page(self) -> Json:
        """What the API gives."""
        found = self._round.found
        return {
            "number": found.number,
            "ordinal": found.ordinal,
            "seed": self._round.seed.hex(),
            "started": found.started,
            "finished": found.finished,
            "tasks": self._tasks(),
            "left_out": self._round.left_out,
            "feed": self._feed(),
        }

    def _tasks(self) -> list[Json]:
        """Shared tasks with the answers of all, then each author's own."""
        shared = self._round.recipe.tasks.shared
        answered = {
            (None if group.task < shared else record.peer_id, group.task): None
            for record in self._round.book.answers.values()
            for group in record.groups
        }
        order = sorted(answered, key=lambda key: (key[0] is not None, self._names.get(key[0] or "", ""), key[1]))
        return [self._task(author, number) for author, number in order]

    def _task(self, author: str | None, number: int) -> Json:
        authors = [author] if author else sorted(self._round.book.answers, key=lambda peer: self._names.get(peer, peer))
        task = self._round.evidence.task(authors[0], number)
        told = has_truth(self._round.recipe, task)
        return {
            "index": number,
            "shared": author is None,
            "author": author,
            "question": task.question,
            "truth": str(task.entry["answer"]) if told else None,
            "answers": [answer for peer in authors for answer in self._answers(peer, number)],
            "critiques": [critique for peer in authors for critique in self._critiques(peer, number)],
            "jury": [entry for peer in authors for entry in self._jury(peer, number)],
            "revisions": [revision for peer in authors for revision in self._revisions(peer, number)],
        }

    def _answers(self, author: str, number: int) -> list[Json]:
        record = self._round.book.answers[author]
        return [
            {
                "author": author,
                "name": self._names[author],
                "sample": sample,
                "text": rollout.text,
                "reward": reward,
                "finished": rollout.finished,
            }
            for group in record.groups
            if group.task == number
            for sample, (rollout, reward) in enumerate(
                zip(group.rollouts, self._round.evidence.answer_rewards(record, group), strict=True)
            )
        ]

    def _critiques(self, author: str, number: int) -> list[Json]:
        """The critique that the author read, of each judge, with the judge's verdicts on all answers of the group."""
        return [
            {
                "judge": judge,
                "name": self._names[judge],
                "author": author,
                "sample": group.sample,
                "text": group.rollouts[0].text,
                "verdicts": list(group.verdicts),
                "probabilities": [round(calibration.probability(raw), 4) for raw in group.verdicts]
                if calibration.audits
                else None,
            }
            for judge, record in self._round.book.critiques.items()
            for group in record.groups
            if (group.author, group.task) == (author, number)
            for calibration in (self._round.calibrations[judge],)
        ]

    def _jury(self, author: str, number: int) -> list[Json]:
        votes: dict[int, list[Vote]] = {}
        for judge, record in self._round.book.critiques.items():
            for group in record.groups:
                if (group.author, group.task) == (author, number):
                    evidence = self._round.evidence
                    for sample, raw in enumerate(group.verdicts):
                        vote = vote_of(evidence.judge(judge), raw, evidence.owners.get(judge))
                        votes.setdefault(sample, []).append(vote)
        return [
            {"author": author, "sample": sample, "probability": probability and round(probability, 4)}
            for sample, given in sorted(votes.items())
            for probability in (decide(given).probability,)
        ]

    def _revisions(self, author: str, number: int) -> list[Json]:
        record = self._round.book.revisions.get(author)
        answers = self._round.evidence.answer_texts(author, number)
        return [
            {
                "author": author,
                "name": self._names[author],
                "sample": group.sample,
                "text": rollout.text,
                "reward": reward,
                "was": answers[group.sample] if group.sample < len(answers) else None,
            }
            for group in (record.groups if record else ())
            if record and group.task == number
            for rollout, reward in zip(
                group.rollouts, self._round.evidence.revision_rewards(record, group), strict=True
            )
        ]

    def _feed(self) -> list[Json]:
        """What was announced, in the order of time; the time is that of the author's own clock."""
        life_s = lifetime_s(self._round.recipe.timing)
        feed: list[Json] = [
            {
                "at": round(said.expires - life_s, 3),
                "peer_id": peer_id,
                "name": self._names[peer_id],
                "what": _what(stage, note),
            }
            for (stage, peer_id), (said, note) in self._round.announced.items()
        ]
        return sorted(feed, key=lambda entry: entry["at"])[:MAX_FEED]


def _what(stage: str, note: StageNote) -> str:
    what = {
        "answer": "answered {} task{s}",
        "critique": "criticised {} answer{s}",
        "revise": "revised {} answer{s}",
    }[stage]
    return what.format(note.groups, s="" if note.groups == 1 else "s")
