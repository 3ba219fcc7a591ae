"""What the games' pages say of credit by rules, as plain loops over transcripts: scores, None where nothing is said.

Written from the pages, with names and labels alone; nothing of `games.credit_rules` is used.
"""

import itertools
from collections import Counter

from tests.games.transcripts import Decision, Replay, Transcript

ENDS_OF_VOTES = ("expelled", "expelled_hidden", "no_expulsion", "tie")
EVIL = ("morgana", "mordred", "oberon", "minion", "assassin")
FAILS = {(7, 3): 2, (8, 3): 2, (9, 3): 2, (10, 3): 2}  # by seats and quest; else 1
SPECIAL = ("seer", "doctor", "witch", "hunter", "guard")


def werewolf(game: Transcript) -> list[float | None]:
    scores: list[float | None] = []
    for made in game.decisions:
        before = game.until(made)
        night = len(before.events("night"))
        named = game.roles[made.picked] if made.picked >= 0 else None
        if made.phase == "wolf":
            picks = Counter(
                other.picked
                for other in game.decisions
                if other.phase == "wolf" and len(game.until(other).events("night")) == night and other.picked >= 0
            )
            chosen = all(picks[made.picked] > count for seat, count in picks.items() if seat != made.picked)
            if made.label == " pass":
                score = -1.0
            elif night == 1:
                score = 0.0 if " pass" in made.legal else None
            else:
                score = 1.0 if named in SPECIAL and chosen else 0.0
        elif made.phase == "seer":
            score = 1.0 if named == "wolf" else 0.0
        elif made.phase == "guard" and night == 1:
            many = len(game.roles) >= 9
            best = " pass" if many else f" Player {made.seat + 1}"
            score = (1.0 if made.label == best else -1.0) if best in made.legal else None
        elif made.phase in ("doctor", "guard"):
            score = -1.0 if named == "wolf" else 1.0 if named in SPECIAL and made.picked != made.seat else 0.0
        elif made.phase == "witch":
            if night == 1 and " save" in made.legal:
                score = 1.0 if made.label == " save" else -1.0
            else:
                score = 0.0 if named is None else 1.0 if named == "wolf" else -1.0
        elif made.phase == "hunter":
            score = 1.0 if named == "wolf" else -1.0 if named in ("seer", "witch") else 0.0
        else:
            score = _of_day(game, made)
        scores.append(score)
    return scores


def _of_day(game: Transcript, made: Decision) -> float | None:
    following = game.since(made).items
    end = next(i for i, item in enumerate(following) if getattr(item, "kind", "") in ENDS_OF_VOTES)
    expelled = following[end].target
    earlier = [item for item in game.until(made).items if getattr(item, "kind", "") in ENDS_OF_VOTES]
    same_vote = [
        other
        for other in game.decisions
        if other.phase == "vote" and len(game.until(other).events(*ENDS_OF_VOTES)) == len(earlier)
    ]
    village = [vote for vote in same_vote if vote.role != "wolf"]
    if made.phase == "vote":
        if made.role == "wolf":
            return None
        if made.picked < 0 or game.roles[made.picked] != "wolf":
            return -1.0
        if expelled == made.picked:
            return 1.0
        if expelled < 0:
            return 0.0
        seer = [vote.picked for vote in same_vote if vote.role == "seer" and vote.picked >= 0]
        if seer:
            return -1.0 if seer[0] != made.picked else 0.0
        counts = Counter(vote.picked for vote in village if vote.picked >= 0)
        for seat, count in counts.items():
            if count >= 3 and 2 * count > len(village) and game.roles[seat] == "wolf" and seat != made.picked:
                return -1.0
        return 0.0
    drew = sum(vote.picked == made.seat for vote in village)
    drew_of_wolves = sum(vote.picked == made.seat for vote in same_vote if vote.role == "wolf")
    if expelled == made.seat:
        return -1.0
    if made.role in ("wolf", "seer") and drew and drew >= len(village) / 2:
        return -1.0
    if made.role == "witch" and drew_of_wolves >= 1 and drew >= 2:
        return -1.0
    if made.role == "wolf":
        return 1.0
    return 1.0 if drew <= (1 if made.role in ("seer", "witch") else 0) else 0.0


def avalon(game: Transcript) -> list[float | None]:
    scores: list[float | None] = []
    for made in game.decisions:
        before = game.until(made)
        quest = before.events("quest")[-1].value
        needed = FAILS.get((len(game.roles), quest), 1)
        evil = made.role in EVIL
        score = None
        if made.phase == "propose" and not evil:
            score = -1.0 if game.roles[made.picked] in EVIL else 1.0
        if made.phase == "vote" and not evil:
            leader = max(i for i, item in enumerate(before.items) if getattr(item, "kind", "") == "leader")
            team = [item.target for item in before.items[leader:] if getattr(item, "kind", "") == "pick"]
            lost = sum(game.roles[seat] in EVIL for seat in team) >= needed
            if before.items[leader].value < 4:
                score = 1.0 if (made.label == " reject") == lost else -1.0
        if made.phase == "quest" and evil:
            result = game.since(made).events("quest_succeeded", "quest_failed")[0]
            score = 0.0
            if made.label == " fail" and result.value <= needed:
                score = 1.0 if result.kind == "quest_failed" else -1.0
        if made.phase == "speak" and not evil and made.role != "merlin":
            score = 0.0
            if made.picked >= 0:
                right = (game.roles[made.picked] in EVIL) == made.label.startswith(" accuse")
                score = 1.0 if right else -1.0
        scores.append(score)
    return scores


def division(game: Transcript, replay: Replay, episode: int) -> list[float | None]:
    """Of bargaining and negotiation; what agreeing would have brought is tried by the rules themselves."""
    scores: list[float | None] = []
    pool = {row.target: row.value for row in game.events("pool")}
    worth = {(row.actor, row.target): row.value for row in game.events("worth")}
    names = {"open": 0, "answer": 0, "hats": 1, "balls": 2}

    def gains(kept: dict[int, int], seat: int) -> tuple[int, int]:
        own = sum(kept[item] * worth[seat, item] for item in pool)
        return own, sum((pool[item] - kept[item]) * worth[1 - seat, item] for item in pool)

    made_of = [made.label for made in game.decisions]
    for made, (_, tried) in zip(game.decisions, replay.states(episode, made_of), strict=True):
        score = None
        if made.phase == "answer":
            agreed = float(tried(" agree").outcome[made.seat])
            score = 0.0 if made.label == " agree" else (game.outcome[made.seat] - agreed) / 2
        elif made.phase in names:
            start = max(i for i in range(made.index + 1) if game.decisions[i].phase in ("open", "answer"))
            turn = game.decisions[start : start + len(pool)]
            kept = {names[d.phase]: int(d.label.split()[-1]) for d in turn}
            mine = gains(kept, made.seat)
            ways = itertools.product(*[range(pool[item] + 1) for item in sorted(pool)])
            others = [gains(dict(zip(sorted(pool), way, strict=True)), made.seat) for way in ways]
            wasteful = any(a >= mine[0] and b >= mine[1] and (a, b) != mine for a, b in others)
            score = -1.0 if wasteful else 1.0
        scores.append(score if len(made.legal) > 1 else None)
    return scores


def kuhn(game: Transcript, replay: Replay, episode: int) -> list[float | None]:
    scores: list[float | None] = []
    labels = [made.label for made in game.decisions]
    for made, (_, tried) in zip(game.decisions, replay.states(episode, labels), strict=True):
        if made.phase != "answer":
            scores.append(None)
            continue
        brought = {label: float(tried(label).outcome[made.seat]) for label in made.legal}
        scores.append(brought[made.label] - sum(brought.values()) / 2)
    return scores


def liars_dice(game: Transcript, replay: Replay, episode: int) -> list[float | None]:
    scores: list[float | None] = []
    labels = [made.label for made in game.decisions]
    for made, (_, tried) in zip(game.decisions, replay.states(episode, labels), strict=True):
        if made.phase != "answer" or len(made.legal) < 2:
            scores.append(None)
        else:
            scores.append((game.outcome[made.seat] - float(tried(" liar").outcome[made.seat])) / 2)
    return scores


def persuasion(game: Transcript, replay: Replay, episode: int) -> list[float | None]:
    scores: list[float | None] = []
    labels = [made.label for made in game.decisions]
    for made, (state, tried) in zip(game.decisions, replay.states(episode, labels), strict=True):
        if made.phase != "persuade" or int(state.exchanges) == replay.game.max_exchanges - 1:
            scores.append(None)
            continue
        quarters = [min(int(at.interest) * int(at.trust) / 4, int(at.budget)) for at in (state, tried(made.label))]
        scores.append((quarters[1] - quarters[0]) / 4)
    return scores


def social_deduction(game: Transcript) -> list[float | None]:
    scores: list[float | None] = []
    for made in game.decisions:
        score = None
        if made.role == "innocent" and len(made.legal) > 1:
            score = 0.0
            if made.picked >= 0:
                impostor = game.roles[made.picked] == "impostor"
                score = 1.0 if impostor != made.label.startswith(" defend") else -1.0
        scores.append(score)
    return scores


def mystery(game: Transcript) -> list[float | None]:
    scores: list[float | None] = []
    for made in game.decisions:
        before, score = game.until(made), None
        if made.role == "innocent":
            guilty = made.picked >= 0 and game.roles[made.picked] == "culprit"
            if made.phase == "vote":
                score = 1.0 if guilty else -1.0
            elif made.phase == "opinion":
                score = 0.0 if made.picked < 0 else 1.0 if guilty == ("suspect" in made.label) else -1.0
            elif made.phase == "show" and before.items[-1].kind != "no_clue":
                score = 1.0 if made.label == " show" else -1.0
            elif made.phase == "answer" and (asked := before.events("ask")[-1].value) < 3:
                (row,) = [row for row in game.events(("was", "carried", "driven")[asked]) if row.actor == made.seat]
                said = game.since(made).events("answer")[0]
                score = 1.0 if said.value == row.value else -1.0
        scores.append(score if len(made.legal) > 1 else None)
    return scores


def shopping(game: Transcript, instruction: str) -> list[float | None]:
    scores: list[float | None] = []
    asked = [word.strip(".,:;!?") for word in instruction.lower().split()]
    for made in game.decisions:
        score = None
        if made.phase in ("search", "item") and len(made.legal) > 1:
            score = 0.0
            if made.label.strip() not in COMMANDS:
                score = 1.0 if made.label.strip() in asked else -1.0
        scores.append(score)
    return scores


COMMANDS = ("search", "next page", "previous page", "back to search", "back", "features", "buy")
