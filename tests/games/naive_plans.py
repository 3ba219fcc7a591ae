"""What the games' pages say of plans, read off transcripts; `None` where a plan hangs on a belief.

Written from names and labels alone; nothing of `games.plans` is used.
"""

from tests.games.naive_rules import EVIL, FAILS
from tests.games.transcripts import Decision, Transcript


def avalon(game: Transcript, made: Decision) -> str | None:
    """Of evil players and Merlin, who know what the others only believe; without Mordred and Oberon."""
    before = game.until(made)
    evil = {seat for seat, role in enumerate(game.roles) if role in EVIL}
    since_leader = before.items
    for index, item in enumerate(before.items):
        if getattr(item, "kind", "") == "leader":
            since_leader = before.items[index + 1 :]
    team = {item.target for item in since_leader if getattr(item, "kind", "") == "pick"}
    if made.role in EVIL:
        return _evil(before, made, team, evil, len(before.events("quest")) - 1)
    if made.phase == "quest":
        return " make the quest succeed"
    if made.role != "merlin":
        return None
    if made.phase == "propose":
        return " take a chance on this team" if made.picked in evil else " send whom I trust"
    if made.phase == "vote":
        if made.label == " approve":
            return " take a chance on this team" if team & evil else " send whom I trust"
        return " keep evil off the quest" if team & evil else " wait for a better team"
    if made.label.startswith(" accuse"):
        return " keep evil off the quest"
    is_open = made.label.startswith(" defend") or made.label == " claim Merlin"
    return " speak up for whom I trust" if is_open else " hide what I know"


def _fits(game: Transcript, evil: set[int]) -> list[int]:
    """How far each seat's votes and teams are those of one who knows the evil."""
    fits, team, leader, votes = [0] * len(game.roles), set(), 0, {}
    for item in [*game.items, None]:
        kind = getattr(item, "kind", "")
        if kind == "leader" or item is None:
            dirty = bool(team & evil)
            fits[leader] -= 6 * dirty
            for seat, approves in votes.items():
                fits[seat] += 1 if approves != dirty else -1
            team, votes = set(), {}
        if kind == "leader":
            leader = item.actor
        elif kind == "pick":
            team.add(item.target)
        elif kind == "vote":
            votes[item.actor] = bool(item.value)
    return fits


def _evil(before: Transcript, made: Decision, team: set[int], evil: set[int], quest: int) -> str:
    roles = before.roles
    needed = FAILS.get((len(roles), quest), 1)
    if made.phase == "shoot":
        fits = _fits(before, evil)
        best = max(fits[seat] for seat in range(len(roles)) if seat not in evil)
        return " shoot who may be Merlin" if fits[made.picked] == best else " shoot somebody at random"
    if made.label == " fail":
        return " let the quest fail"
    if made.phase == "propose" and made.picked in evil:
        return " get evil onto the quest"
    if made.label == " approve" and len(team & evil) >= needed:
        return " get evil onto the quest"
    if made.label == " reject" and not team & evil:
        return " block a good team"
    accuses, defends = made.label.startswith(" accuse"), made.label.startswith(" defend")
    if (accuses and made.picked not in evil) or (defends and made.picked in evil):
        return " turn the good against each other"
    return " hide that I am evil"


APPEALS = {"reasons": (" logical appeal", " donation information"), "people": (" emotion appeal", " personal story"),
           "examples": (" self-modelling", " foot in the door")}  # fmt: skip
INQUIRIES = (" source inquiry", " task inquiry", " personal inquiry")
ALL_APPEALS = (*(appeal for pair in APPEALS.values() for appeal in pair), " credibility appeal")
ANSWERS = (" positive", " neutral", " negative", " care for reasons", " care for people", " care for examples")


def persuasion(game: Transcript, made: Decision) -> str:
    """The persuadee may be a seat or not."""
    before = game.until(made)
    exchanges: list[tuple[str, str | None]] = []  # each act with the answer to it, as far as there is one
    for item in before.items:
        if isinstance(item, Decision) and item.phase == "persuade":
            exchanges.append((item.label, None))
        elif getattr(item, "kind", "") == "reply" and item.value < len(ANSWERS):
            exchanges[-1] = exchanges[-1][0], ANSWERS[item.value]
    return _persuader(made, exchanges) if made.phase == "persuade" else _persuadee(before, made, exchanges)


def _persuader(made: Decision, exchanges: list[tuple[str, str | None]]) -> str:
    act = made.label
    if act == " ask for a donation":
        liked = any(of in ALL_APPEALS and answer == " positive" for of, answer in exchanges)
        return " ask now that they like it" if liked else " ask at once"
    answers = [answer for of, answer in exchanges if of == act]
    if answers:
        failed = act in INQUIRIES or answers[-1] == " negative"
        return " insist on what they dislike" if failed else " go on with what they like"
    if act in INQUIRIES:
        return " find out what moves them" if act == " personal inquiry" else " find out where they stand"
    if act == " credibility appeal":
        return " win their trust"
    told = [answer.split()[-1] for of, answer in exchanges if of == " personal inquiry"]
    return " speak to what they care for" if told and act in APPEALS[told[-1]] else " try what may move them"


def _persuadee(before: Transcript, made: Decision, exchanges: list[tuple[str, str | None]]) -> str:
    interest, trust, budget, leaning = (
        before.events(kind)[-1].value for kind in ("interest", "trust", "budget", "leaning")
    )
    worth = min(interest * trust // 4, budget)
    if made.phase == "donate":
        given = 0 if made.label == " give nothing" else int(4 * float(made.label.removeprefix(" give $")))
        return (
            " keep my money" if given < worth else " give more than it is worth" if given > worth
            else " give what it is worth"
        )  # fmt: skip
    if made.label in (" agree", " refuse"):
        return " give what it is worth" if made.label == " agree" else " keep my money"
    if made.phase == "tell":
        return " tell the truth" if made.label == ANSWERS[3 + leaning] else " hide what I think"
    act = exchanges[-1][0]
    if act in INQUIRIES:
        trusting, interested = (trust >= 2) + (trust >= 3), (interest >= 3) + (interest >= 5)
        mood = trusting if act == " source inquiry" else interested
    else:
        order = (" logical appeal", " emotion appeal", " credibility appeal", " foot in the door", " self-modelling",
                 " personal story", " donation information")  # fmt: skip
        (weight,) = [row.value for row in before.events("weight") if order[row.target] == act]
        mood = max(weight - sum(of == act for of, _ in exchanges[:-1]), 0)
    opposite = {0: " positive", 1: None, 2: " negative"}[mood]
    return " hide what I think" if made.label == opposite else " tell the truth"


def shopping(game: Transcript, made: Decision, instruction: str) -> str | None:
    """Of searches and commands; what is known of offers is left to the eye."""
    wanted = instruction.lower().replace("\nbuy:", "").split()
    before = game.until(made)
    if made.phase == "search":
        query: list[str] = []
        for other in before.decisions:
            query = [*query, other.label.strip()] if other.phase == "search" else []
        query = [word for word in (*query, made.label.strip()) if word != "search"]
        if any(word not in wanted for word in query):
            return " look around"
        again = any(other.label == " back to search" for other in before.decisions)
        return " search with other words" if again else " search for what I was asked for"
    known = {" next page": " see more offers", " previous page": " see more offers", " features": " make sure first",
             " back to search": " go back and search", " back": " compare with other offers"}  # fmt: skip
    if made.phase == "item" and made.label not in (*known, " buy"):
        return " choose what I was asked for" if made.label.strip() in wanted else " choose something else"
    return known.get(made.label)


def kuhn(game: Transcript, made: Decision) -> str:
    (card,) = [event.value for event in game.events("card") if event.actor == made.seat]
    plans = {
        ("open", " bet"): (" bluff", " bluff", " bet because I am strong"),
        ("open", " pass"): (" wait and see", " wait and see", " set a trap"),
        ("answer", " bet"): (" take a chance against the odds", " catch their bluff", " bet because I am strong"),
        ("answer", " pass"): (" save my chip", " save my chip", " take a chance against the odds"),
    }
    return plans[made.phase, made.label][card]


def bargaining(game: Transcript, made: Decision) -> str:
    before = game.until(made)
    pool = [event.value for event in before.events("pool")]
    worths = [event.value for event in before.events("worth") if event.actor == made.seat]
    whole = sum(count * worth for count, worth in zip(pool, worths, strict=True))
    theirs = [keep.value for keep in before.events("keep") if keep.actor != made.seat][-3:]
    left = sum((c - k) * w for c, k, w in zip(pool, theirs, worths, strict=True)) if theirs else 0
    good = bool(theirs) and left >= whole / 2
    if made.label == " agree":
        return " take a good offer" if good else " take what I can get"
    if made.phase == "answer" and good:
        return " hold out for more"
    item = {"hats": 1, "balls": 2}.get(made.phase, 0)
    dear, all_of_it = worths[item] >= whole / sum(pool), int(made.label.split()[-1]) == pool[item]
    if all_of_it:
        return " keep what is worth most to me" if dear else " keep as much as I can"
    return " give in on what I want" if dear else " leave them what is worth little to me"


def werewolf(game: Transcript, made: Decision) -> str | None:
    """Whom the village suspects and needs is left to the players."""
    wolves = {seat for seat, role in enumerate(game.roles) if role == "wolf"}
    voting = made.phase == "vote" and made.picked >= 0
    against = voting or made.label.startswith((" accuse", " report wolf"))
    in_favour = made.label.startswith((" defend", " report good"))
    if made.role == "wolf":
        if made.phase == "wolf":
            return None if made.picked >= 0 else " hide what I am"
        if against:
            return " give up a fellow" if made.picked in wolves else " turn them against an innocent"
        return " cover a fellow" if in_favour and made.picked in wolves else " hide what I am"
    if made.phase == "seer":
        return " find out who is evil"
    if made.label == " save":
        return " protect whom we need"
    if made.label == " pass":
        return " wait and listen"
    if made.label.startswith(" claim"):
        return " show what I am" if made.label == f" claim {made.role}" else " hide what I am"
    return " speak up for whom I trust" if in_favour else None


# Readings that leave no plan of their game unsaid.
EXACT = {"avalon-v0": avalon, "persuasion-v0": persuasion, "kuhn-v0": kuhn, "bargaining-v0": bargaining}
