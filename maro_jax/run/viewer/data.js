// What the page knows, without the page: packed rows become objects, games are filtered, numbers become words.

/** Objects from a packed row: `columns` is a list of [name, "plain" | "text" | "list"]. */
function unpackRow(data, kind, row, from = 0) {
  const made = {};
  data.columns[kind].forEach(([name, holds], column) => {
    const value = row[from + column];
    if (value === null || value === undefined) made[name] = null;
    else if (holds === "text") made[name] = data.texts[value];
    else if (holds === "list") made[name] = data.lists[value].map((text) => data.texts[text]);
    else made[name] = value;
  });
  return made;
}

/** What the list of games needs of game number `index`; its items stay packed. */
function summarise(data, index) {
  const [facts, seats] = data.games[index];
  return { index, ...unpackRow(data, "game", facts), seats: seats.map((seat) => unpackRow(data, "seat", seat)) };
}

/** A game's items, each with its `type` and `place`; a behaviour also with its `echoes` and its `channel`. */
function openGame(data, index) {
  const items = data.games[index][2].map((row, place) => {
    const type = row[0] ? "behaviour" : "event";
    return { type, place, ...unpackRow(data, type, row, 1) };
  });
  attachEchoes(items);
  return items;
}

/**
 * The events right after a behaviour that repeat to others what its seat did (a seat is shown no echo of its own
 * acts) become its `echoes`; where everybody hears of it at once, the behaviour itself is public.
 */
function attachEchoes(items) {
  let behaviour = null;
  for (const item of items) {
    if (item.type === "behaviour") {
      behaviour = Object.assign(item, { echoes: [], channel: "private" });
    } else if (behaviour && item.actor === behaviour.seat && !(item.audience ?? []).includes(item.actor)) {
      item.isEcho = true;
      behaviour.echoes.push(item);
      if (item.channel === "public") behaviour.channel = "public";
    } else {
      behaviour = null;
    }
  }
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const MODELS = ["learner", "opponent"]; // holders whose replies are sampled

/** Credit of a behaviour, null if it was given none. */
const creditOf = (item) => (isNumber(item.weight) && isNumber(item.sign) ? item.weight * item.sign : null);

/** How a game ended, in a word or two. */
const resultOf = (game) => (game.winner ? `${game.winner} won` : game.truncated ? "cut off" : "drawn");

/** Who may know of an event: its audience and whoever caused it. */
function knowers(event) {
  const seats = new Set(event.audience ?? []);
  if (isNumber(event.actor)) seats.add(event.actor);
  return [...seats].sort((a, b) => a - b);
}

/** Whether an item belongs to a view: "all", "public" (what everybody is told), or the number of a seat as text. */
function isVisible(item, view) {
  if (view === "all") return true;
  if (item.type === "behaviour") return view !== "public" && item.seat === Number(view);
  return item.channel === "public" || (view !== "public" && knowers(item).includes(Number(view)));
}

/** Whether an event is shown with the behaviour it repeats, which a view may hide. */
const isInItsCard = (item, view) => item.isEcho === true && (view === "all" || (view !== "public" && item.actor === Number(view)));

/** Whether a seat is one that the filters ask for. */
const isWanted = (seat, filters) =>
  (!filters.role || seat.role === filters.role) && (!filters.holder || seat.holder === filters.holder);

/** Whether a game has the outcome asked for: "result:…", or "seat:won" and the like for the seats asked for. */
function hasOutcome(game, wanted, outcome) {
  if (!outcome) return true;
  if (outcome.startsWith("result:")) return resultOf(game) === outcome.slice("result:".length);
  const sign = { "seat:won": 1, "seat:lost": -1, "seat:nothing": 0 }[outcome];
  return wanted.some((seat) => isNumber(seat.outcome) && Math.sign(seat.outcome) === sign);
}

/** The numbers of the games that pass the filters {game, iteration, role, holder, outcome, text}. */
function filterGames(data, games, filters) {
  const texts = filters.text ? textsWith(data, filters.text) : null;
  return games.filter((game) => {
    if (filters.game && game.game !== filters.game) return false;
    if (filters.iteration !== "" && filters.iteration !== undefined && String(game.iteration) !== filters.iteration) return false;
    const wanted = game.seats.filter((seat) => isWanted(seat, filters));
    return wanted.length > 0 && hasOutcome(game, wanted, filters.outcome) && (!texts || holdsText(data, game.index, texts));
  }).map((game) => game.index);
}

/** The numbers of all texts that hold `needle`, whatever its case. */
function textsWith(data, needle) {
  const small = needle.toLowerCase();
  return new Set(data.texts.flatMap((text, number) => (text.toLowerCase().includes(small) ? [number] : [])));
}

/** Whether something said, thought, done or told in a game is one of `texts`. */
function holdsText(data, index, texts) {
  const searched = { event: ["text"], behaviour: ["thought", "speech", "action"] };
  const places = Object.fromEntries(Object.entries(searched).map(([kind, names]) =>
    [kind, names.map((name) => 1 + data.columns[kind].findIndex(([column]) => column === name))]));
  return data.games[index][2].some((row) => places[row[0] ? "behaviour" : "event"].some((place) => texts.has(row[place])));
}

/** Games in the order asked for: "newest" or "oldest" iteration first, or the strongest "credit", or the "long" ones. */
function sortGames(games, indices, order) {
  const by = {
    newest: (a, b) => b.iteration - a.iteration,
    oldest: (a, b) => a.iteration - b.iteration,
    credit: (a, b) => b.strongest - a.strongest,
    long: (a, b) => b.decisions - a.decisions,
  }[order];
  return [...indices].sort((a, b) => by(games[a], games[b]) || a - b);
}

/** A number with a real minus sign; a dash where there is none. */
function show(value, digits = 3) {
  if (!isNumber(value)) return "–";
  return (Math.abs(value) < 0.5 * 10 ** -digits ? 0 : value).toFixed(digits).replace("-", "−");
}

const signed = (value, digits = 3) => (isNumber(value) && Number(value.toFixed(digits)) > 0 ? "+" : "") + show(value, digits);

/** A number with as many digits as a reader can use, for the scale of a chart. */
function brief(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(1).replace("e+", "e").replaceAll("-", "−");
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
}

const percent = (share) => `${share > 0 && share < 0.001 ? "< 0.1" : (100 * share).toFixed(share < 0.1 || share > 0.9 ? 1 : 0)} %`;

/**
 * What is known of the probabilities of the legal actions: that of the one taken, and what remains for all others.
 * With two choices that is the other's. Null where nothing was sampled.
 */
function choices(item) {
  const legal = item.legal ?? [];
  const sampled = MODELS.includes(item.holder) && legal.length > 1 && isNumber(item.action_log_prob);
  const taken = sampled ? Math.min(1, Math.exp(item.action_log_prob)) : null;
  return {
    taken,
    rest: sampled ? 1 - taken : null,
    labels: legal.map((label) => {
      const isTaken = label === item.action;
      return { label, isTaken, probability: !sampled ? null : isTaken ? taken : legal.length === 2 ? 1 - taken : null };
    }),
  };
}

/** Marks of a scale from `low` to `high`: multiples of the largest round step that leaves at least three of them. */
function ticks(low, high) {
  if (low === high) return [low];
  const largest = Math.ceil(Math.log10(high - low));
  for (let power = largest; ; power -= 1) {
    for (const factor of [5, 2, 1]) {
      const step = factor * 10 ** power;
      const first = Math.ceil(low / step - 1e-9);
      const count = Math.floor(high / step + 1e-9) - first + 1;
      if (count >= 3) return Array.from({ length: count }, (_, index) => Number(((first + index) * step).toPrecision(12)));
    }
  }
}

/** The text of a mark, with the digits that its neighbours need. */
function markText(value, marks) {
  const step = marks.length > 1 ? marks[1] - marks[0] : Math.abs(value) || 1;
  const size = Math.max(Math.abs(marks[0]), Math.abs(marks[marks.length - 1]));
  if (size >= 1e5 || size < 1e-3) return value === 0 ? "0" : value.toExponential(size / step >= 10 ? 1 : 0).replace("e+", "e").replaceAll("-", "−");
  return value.toFixed(Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))).replace("-", "−");
}

/** The place of the value in a sorted list that is nearest to `value`. */
function nearest(sorted, value) {
  let best = 0;
  sorted.forEach((one, place) => { if (Math.abs(one - value) < Math.abs(sorted[best] - value)) best = place; });
  return best;
}
