"""The word list of the embedded tiny model: control tokens, printable ASCII, and the phrases of the games.

A new version only appends to `PHRASES`, so that ids of older checkpoints stay valid. `tests/games/text` checks that the
games' templates and labels use whole phrases.
"""

VERSION = 2

CONTROL: tuple[str, ...] = ("<|pad|>", "<|think|>", "<|say|>", "<|act|>", "<|end|>")

CHARACTERS: tuple[str, ...] = ("\n", *(chr(code) for code in range(32, 127)))

_PLAYERS = tuple(f"Player {number}" for number in range(1, 13))
_ROLES = ("wolf", "seer", "doctor", "villager")
_TITLES = ("Merlin", "Percival", "Morgana", "Mordred", "Oberon", "servant", "minion", "assassin")
_ARTICLES = {"servant": "a ", "minion": "a ", "assassin": "the "}
_ITEMS = ("book", "hat", "ball")
_SYMBOLS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")

PHRASES: tuple[str, ...] = (
    # players, as they stand in a sentence and at the start of a line
    *(f" {player}" for player in _PLAYERS),
    *(f"\n{player}" for player in _PLAYERS),
    *(f"\n{player}:" for player in _PLAYERS),
    *(f"\n{player} votes" for player in _PLAYERS),
    # werewolf
    "\nYou are",
    *(f"You are a {role}" for role in _ROLES),
    *(f" {role}" for role in _ROLES),
    *(f"\nNight {number}" for number in range(1, 10)),
    *(f"\nDay {number}" for number in range(1, 10)),
    "\nYour fellow wolf is",
    "\nChoose a player to kill",
    "\nChoose a player to protect",
    "\nChoose a player to check",
    "\nSpeak",
    "\nVote",
    " wants to kill",
    " protects",
    " checks",
    " is",
    " a wolf",
    " not a wolf",
    " was killed",
    " was killed and was a",
    "\nNobody was killed",
    " says:",
    " accuse",
    " defend",
    " claim",
    " report",
    " good",
    " pass",
    " I",
    " am a",
    " was expelled",
    " was expelled and was a",
    "\nNobody was expelled",
    "\nThe wolves win",
    "\nThe village wins",
    "\nThe game was stopped",
    # since version 2: numbers, and two-player games
    *(f" {number}" for number in range(21)),
    " of",
    " wins",
    " shows",
    "You are the first player",
    "You are the second player",
    # kuhn
    "\nPass or bet",
    "\nPass to fold or bet to call",
    "\nYour card is",
    *(f" the {card}" for card in ("jack", "queen", "king")),
    " bet",
    " chip",
    " chips",
    # liar's dice
    "\nBid",
    "\nBid or call liar",
    "\nYour die is",
    "\nYour dice are",
    " bid",
    " call",
    " liar",
    # bargaining
    *(f"\nHow many of the {item}s do you keep" for item in _ITEMS),
    "\nAgree, or how many of the books do you keep",
    *(f"\n{item.capitalize()}s in the pool:" for item in _ITEMS),
    *(f"\nTo you a {item} is worth" for item in _ITEMS),
    *(f" of the {item}s" for item in _ITEMS),
    "\nTurns at most:",
    " keep",
    " keeps",
    " picks",
    " agree",
    " agrees",
    "\nNo deal: the turns are over",
    "\nNo deal: the talks broke off",
    # avalon
    *(f"You are {_ARTICLES.get(title, '')}{title}" for title in _TITLES),
    *(f" {title}" for title in _TITLES),
    " is evil",
    " is Merlin",
    " is Merlin or Morgana",
    *(f"\nQuest {number}" for number in range(1, 6)),
    *(f" needs {number} players" for number in range(2, 6)),
    *(f" and is lost by {fails}" for fails in ("1 fail", "2 fails")),
    *(f" leads proposal {number}" for number in range(1, 6)),
    "\nPick a player for the team",
    "\nVote on the team",
    "\nPlay success or fail",
    "\nShoot Merlin",
    " approve",
    " reject",
    "\nThe team is approved",
    "\nThe team is rejected",
    "\nThe team goes without a vote",
    " plays",
    " success",
    " fail",
    *(f" {number} fails" for number in ("no", 2, 3, 4)),
    " 1 fail",
    "\nThe quest succeeds with",
    "\nThe quest fails with",
    " shoots",
    "\nGood wins",
    "\nEvil wins",
    # negotiation
    "\nChoose a symbol",
    " signals",
    *(f" {symbol}" for symbol in _SYMBOLS),
    # social deduction
    "You are innocent",
    "You are an impostor",
    "\nYour fellow impostor is",
    "\nRound",
    "\nSignal:",
    " looks clear",
    " looks suspicious",
    " claim innocent",
    "\nThe innocents win",
    "\nThe impostors win",
)

PIECES: tuple[str, ...] = (*CHARACTERS, *PHRASES)
