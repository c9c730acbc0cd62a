"""What each number of the dashboard means, in one sentence; the page shows it on hover, the API describes with it."""

DEFINITIONS: dict[str, str] = {
    "round": (
        "The tick of the swarm's clock at which the round started; numbers have gaps, as rounds end when all are done."
    ),
    "ordinal": "How many rounds a peer has played, this one included.",
    "stage": "What peers do within a round: answer, critique, revise, update, and merge where the recipe says so.",
    "role": (
        "A learner answers, judges and trains; a judge only criticises answers of others; empty until a record of the "
        "peer is here."
    ),
    "peers_present": "Peers whose signed heartbeat was seen when somebody last came or went.",
    "tokens_per_s": (
        "Tokens that a peer generated in its last round over the seconds of its three stages; summed over "
        "those present."
    ),
    "heldout": (
        "Share of the held-out questions, which no round trains on, that a peer's model answers right, greedily."
    ),
    "heldout_gain": "Held-out accuracy now less that before the first round.",
    "epoch": "A fixed number of seconds of rounds, whose points are put on the chain together.",
    "points": (
        "What a peer earned, recomputable from signed records: the mean reward of each answered or revised "
        "group, and proper scores of verdicts."
    ),
    "settled": "Points that are on the chain, in the newest settlement that is not frozen.",
    "pending": "Points earned by this journal's own count that no settlement holds yet.",
    "reward": (
        "Mean verifier reward, or the jury's where no code can check, of a peer's own answers over its last "
        "10 rounds; 1 is all right."
    ),
    "informedness": (
        "How much a judge's verdicts say: true positive rate plus true negative rate less 1 on audits; 0 for "
        "any report that ignores the answer."
    ),
    "informedness_lower": "Lower 90% confidence bound of the informedness; it is the judge's weight in a jury.",
    "audits": (
        "Verdicts on answers whose truth the verifier knows; passed where the calibrated verdict, of the newest 400 of "
        "each judge, was on the right side."
    ),
    "critiques": "Answers of others that a peer criticised.",
    "share_audited": "Share of a peer's announced records that a peer here fetched and checked in full.",
    "streak": "Rounds in a row, up to the newest, in which a peer published answers.",
    "tokens_per_kwh": "Generated tokens per kilowatt-hour; empty where no power meter is known.",
    "spark": "Points of each of the last 30 rounds.",
    "trained": "Groups of rollouts that went into the update.",
    "fetched": "Groups of other peers among those trained.",
    "dropped": "Groups that were not trained on, by reason.",
    "refused": "Records of others that came and broke a rule, by reason.",
    "drift": "Mean of |ratio - 1| over own tokens in the update: how far sampling and training arithmetic are apart.",
    "merged": "Peers whose weights went into this peer's own at the end of the round.",
    "merge_refused": (
        "Weights of others that were not taken: those that never came, are no such model, stale or outliers, and those "
        "with which held-out answers got worse."
    ),
    "staleness": (
        "Seconds from the start of the round that merged weights come from, by their author's word, to the start of "
        "the round in which they were merged; fetched groups are always of the same round, which is no staleness."
    ),
    "network": (
        "Bytes of records, weights and announcements that a peer received and sent in a round; DHT includes the calls "
        "that keep the table of peers."
    ),
    "memory_plan": (
        "What the peer chose before its first round so that updates fit into memory: rows in one pass, tokens whose "
        "logits exist at once, and whether layers are computed again instead of kept (checkpointing)."
    ),
    "memory": "Most memory that the peer's process, or its GPU, used in the round.",
    "joules": "Energy of the round, where a power meter is known.",
    "help": (
        "Beside its twin alone: the share of held-out questions that a peer answered right after so many rounds, less "
        "that of its twin, which learns alone at a small share of the peer's work, after as many. Gained by a merge: "
        "by how much one merge of weights with others changed, on average, the share of fresh questions that the peer "
        "answers right. Both in percentage points, with the interval that holds the true change 19 times out of 20; "
        "one that includes 0 does not say that it helped."
    ),
    "seconds": "Seconds of each stage; wait is the time spent waiting for other peers.",
    "probability": "A judge's verdict after calibration on its audits: the probability that the answer is right.",
    "verdict": "A judge's raw score of an answer: log-odds in the judge's own scale.",
    "jury": "The weighted log-odds vote of the judges of an answer; none where no judge has proved itself.",
    "truth": "The right answer as the recipe's verifier has it.",
    "calibration": "How often answers were right among those to which the judge gave about the same probability.",
    "equivocations": "Two different records that one peer signed for the same round and stage.",
    "not_revealed": (
        "Records that a peer committed to by its signed announcement, and that never came when a peer here asked for "
        "them; each asker counts. A broken connection looks the same as silence."
    ),
    "sealed": (
        "Questions whose answers the recipe shows only as hashes, and whose answers were opened after everybody had "
        "committed to a verdict: audits that nobody could look up."
    ),
    "settlement": (
        "The Merkle root of all points of an epoch, posted with a quorum of signatures; final after a challenge window."
    ),
    "signers": "How many registered peers signed a settlement.",
}
