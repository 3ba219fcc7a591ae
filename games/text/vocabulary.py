"""The word list of the embedded tiny model: control tokens, printable ASCII, and the phrases of the games.

A new version only appends to `PHRASES`, so that ids of older checkpoints stay valid. `tests/games/text` checks that the
games' templates and labels use whole phrases.
"""

VERSION = 1

CONTROL: tuple[str, ...] = ("<|pad|>", "<|think|>", "<|say|>", "<|act|>", "<|end|>")

CHARACTERS: tuple[str, ...] = ("\n", *(chr(code) for code in range(32, 127)))

_PLAYERS = tuple(f"Player {number}" for number in range(1, 13))
_ROLES = ("wolf", "seer", "doctor", "villager")

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
)

PIECES: tuple[str, ...] = (*CHARACTERS, *PHRASES)
