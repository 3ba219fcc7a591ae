// One game: its headline, seats, map of credit, and the transcript in two lanes, public and private.

const HEADINGS = ["night", "day", "quest", "round"]; // kinds of event that open a part of the game
const REDUNDANT = ["seat"]; // kinds that say what the table of seats says already
const SIDE_MARKS = ["●", "■", "▲", "◆"];

const sidesOf = (game) => [...new Set(game.seats.map((seat) => seat.side))].sort();
const sideNumber = (game, seat) => Math.max(0, sidesOf(game).indexOf(game.seats[seat]?.side)) % SIDE_MARKS.length;
const sideClass = (game, seat) => `side-${sideNumber(game, seat)}`;
const seatName = (game, seat) => game.seats[seat]?.name ?? `seat ${seat + 1}`;
const seatNames = (game, seats) => seats.map((seat) => seatName(game, seat)).join(", ");

function sideMark(game, seat) {
  const mark = element("span", "mark", SIDE_MARKS[sideNumber(game, seat)]);
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

/** The whole view of a game. `state`: {view, filters}; `act`: {setView, move}. */
function gameView(page, game, state, act) {
  const items = openGame(page.data, game.index);
  return [
    headline(game, act),
    element("div", "seats", ...game.seats.map((seat, index) => seatCard(game, seat, index, state))),
    creditMap(page, game, items, act),
    toolbar(game, state, act),
    transcript(page, game, items, state),
  ];
}

function headline(game, act) {
  const facts = `iteration ${game.iteration} · episode ${game.episode} · seed ${game.seed} · ${game.decisions} decisions`;
  const previous = button("step", "‹", () => act.move(-1));
  const next = button("step", "›", () => act.move(1));
  previous.title = "Previous game (←)";
  next.title = "Next game (→)";
  for (const node of [previous, next]) node.setAttribute("aria-label", node.title);
  return element("header", "headline", element("div", "", element("h2", "", `${game.game}: ${resultOf(game)}`),
    element("p", "quiet number", facts)), element("div", "steps", previous, next));
}

function seatCard(game, seat, index, state) {
  const wanted = (state.filters.role || state.filters.holder) && isWanted(seat, state.filters);
  return element("div", `seat ${sideClass(game, index)}${wanted ? " wanted" : ""}`,
    element("b", "", seat.name), element("span", "role", sideMark(game, index), seat.role),
    element("small", "", [seat.side === seat.role ? "" : seat.side, seat.holder].filter(Boolean).join(" · ")),
    seatResult(seat.outcome));
}

function seatResult(outcome) {
  if (!isNumber(outcome)) return null;
  const word = outcome > 0 ? "won" : outcome < 0 ? "lost" : "nothing won or lost";
  return element("small", `number result ${outcome > 0 ? "won" : ""}`, outcome ? `${word} ${signed(outcome, Number.isInteger(outcome) ? 0 : 2)}` : word);
}

/** A row for each seat, a column for each behaviour; the arrow keys walk through it. */
function creditMap(page, game, items, act) {
  const behaviours = items.filter((item) => item.type === "behaviour");
  const rows = game.seats.map((seat, index) => {
    const cells = behaviours.map((item) => (item.seat === index ? mapCell(page, game, item, act) : element("i")));
    return element("div", `row ${sideClass(game, index)}`,
      element("span", "name", element("span", "long", `${seat.name} · ${seat.role}`), element("span", "short", `${index + 1} ${seat.role}`)),
      element("div", "cells", ...cells));
  });
  const section = element("section", "map", element("h3", "unseen", "Credit of every decision"), element("div", "rows", ...rows), legend(page));
  const order = (cell) => Number(cell.dataset.place);
  rovingFocus(section, ".rows button", (key, at, cells) => {
    const sorted = cells.map((cell, place) => place).sort((a, b) => order(cells[a]) - order(cells[b]));
    const rank = sorted.indexOf(at);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
    if (key === "Home") return sorted[0];
    if (key === "End") return sorted[sorted.length - 1];
    return step ? sorted[rank + step] ?? null : null;
  });
  const first = section.querySelector(".rows button");
  const earliest = [...section.querySelectorAll(".rows button")].reduce((best, cell) => (order(cell) < order(best) ? cell : best), first);
  if (earliest) earliest.tabIndex = 0;
  return section;
}

function mapCell(page, game, item, act) {
  const value = creditOf(item);
  const cell = button(value === null ? "none" : "", "", () => act.reveal(item.place));
  cell.tabIndex = -1;
  cell.dataset.place = item.place;
  cell.setAttribute("aria-label", `${seatName(game, item.seat)}, ${item.phase}: ${item.action ?? item.speech ?? ""}; `
    + (value === null ? "no credit" : `credit ${signed(value)}`));
  paint(cell, item, page.strongest);
  giveTip(game, item, cell);
  return cell;
}

function legend(page) {
  const scale = page.hasCredit
    ? [element("span", "number", `▼ −${show(page.strongest, 2)}`), element("span", "bar"), element("span", "number", `+${show(page.strongest, 2)} ▲`),
      element("span", "", "credit: utility = weight × sign, orange made less likely, blue more")] : [];
  return element("div", "legend", ...scale, element("span", "none"), element("span", "", "no credit: not learnt from"));
}

function toolbar(game, state, act) {
  const select = element("select");
  fillSelect(select, [["all", "everything"], ["public", "what everybody sees"],
    ...game.seats.map((seat, index) => [String(index), `what ${seat.name} (${seat.role}) knows`])]);
  select.value = state.view;
  select.id = "view";
  select.addEventListener("change", () => act.setView(select.value));
  const toggle = button("", "Open all", () => {
    const details = [...document.querySelectorAll("details.behaviour")];
    const open = details.some((node) => !node.open);
    for (const node of details) node.open = open;
    toggle.textContent = open ? "Close all" : "Open all";
  });
  return element("div", "tools", element("label", "", "Show ", select), toggle,
    element("span", "keys", element("kbd", "", "←"), element("kbd", "", "→"), " games ", element("kbd", "", "j"), element("kbd", "", "k"), " decisions"));
}

/** In the order of play: what is public on the left, what is private on the right. */
function transcript(page, game, items, state) {
  const shown = items.filter((item) => isVisible(item, state.view) && !isInItsCard(item, state.view)
    && !(state.view === "all" && REDUNDANT.includes(item.kind)));
  const lanes = shown.some((item) => item.channel !== "public") && shown.some((item) => item.channel === "public");
  const section = element("section", lanes ? "transcript lanes" : "transcript");
  section.setAttribute("aria-label", "Transcript");
  if (lanes) {
    section.append(element("div", "lane-heads", laneHead("public", "Public", "everybody may know"),
      laneHead("private", "Private", "known to some, or decided in secret")));
  }
  let block = null; // neighbours of one channel share a block
  for (const item of shown) {
    const heading = item.type === "event" && item.channel === "public" && HEADINGS.includes(item.kind);
    if (heading) {
      section.append(element("h3", "phase", item.text));
      block = null;
      continue;
    }
    if (!block || block.dataset.channel !== item.channel) {
      block = element("div", `lane ${item.channel}`);
      block.dataset.channel = item.channel;
      section.append(block);
    }
    block.append(item.type === "event" ? eventRow(game, item) : behaviourCard(page, game, item, state));
  }
  return section;
}

function laneHead(channel, name, note) {
  return element("p", `lane-head ${channel}`, element("b", "", name), element("span", "quiet", note));
}

function eventRow(game, item) {
  if (item.channel !== "private") return element("p", "event", item.text);
  const seats = knowers(item);
  return element("p", "event private", element("span", "tag", seats.length ? `only ${seatNames(game, seats)}` : "nobody"), item.text);
}

function behaviourCard(page, game, item, state) {
  const aside = (state.filters.role || state.filters.holder) && !isWanted({ role: item.role, holder: item.holder }, state.filters);
  const node = element("details", `behaviour ${sideClass(game, item.seat)}${aside ? " aside" : ""}`);
  node.id = `item-${item.place}`;
  paint(node, item, page.strongest);
  const value = creditOf(item);
  const chip = element("span", `credit number${value === null ? " none" : ""}`, value === null ? "no credit" : `${signMark(value)} ${signed(value)}`);
  const summary = element("summary", "",
    element("span", "who", sideMark(game, item.seat), element("b", "", seatName(game, item.seat)),
      element("span", "quiet", standing(item))), chip);
  if (item.thought) summary.append(element("span", "thought", element("span", "tag", "thinks"), item.thought));
  if (item.speech) summary.append(element("span", "speech", `“${item.speech}”`));
  if (item.action) summary.append(actLine(item));
  summary.append(...echoLines(game, item));
  node.append(summary);
  node.addEventListener("toggle", () => {
    // The numbers of a card are drawn when it is first opened.
    if (node.open && node.children.length === 1) node.append(element("div", "detail", ...[factList(item), legalList(item)].filter(Boolean)));
  });
  giveTip(game, item, chip, summary);
  return node;
}

function actLine(item) {
  const { taken, labels } = choices(item);
  const odds = taken === null ? (labels.length === 1 ? "the only choice" : "") : `${percent(taken)} of ${labels.length} choices`;
  return element("span", "act", item.action.trim(), odds ? element("span", "odds number", odds) : null);
}

/** Who was told of a decision, a line for each audience, in their words unless the card says the same above. */
function echoLines(game, item) {
  const lines = new Map(); // by who it is that was told
  for (const echo of item.echoes) {
    const told = echo.audience ?? [];
    const who = echo.channel === "public" ? "everybody" : told.length ? `only ${seatNames(game, told)}` : "";
    const isSaid = (item.speech && echo.text.includes(item.speech)) || echo.text === `${seatName(game, item.seat)}: ${item.action}`;
    lines.set(who, [...(lines.get(who) ?? []), ...(isSaid ? [] : [echo.text])]);
  }
  return [...lines].map(([who, texts]) => element("span", who === "everybody" ? "echo" : "echo private",
    element("span", "tag", !who ? "kept secret" : `${texts.length ? "told to" : "heard by"} ${who}`), texts.join(" · ")));
}
