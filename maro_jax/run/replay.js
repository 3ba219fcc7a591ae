"use strict";
// Every text of a game enters the page as a text node (element() and append), never as markup.
const { title, games } = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
let current = 0;
let view = "all";

function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const show = (value, digits = 3) => (isNumber(value) ? value.toFixed(digits).replace("-", "−") : "–");
const signed = (value, digits = 3) => (value > 0 ? "+" : "") + show(value, digits);
const credit = (item) => (isNumber(item.weight) && isNumber(item.sign) ? item.weight * item.sign : null);
const winner = (game) => game.winner ?? (game.truncated ? "truncated" : "draw");
const sides = (game) => [...new Set(game.seats.map((seat) => seat.side))].sort();
const seatName = (game, seat) => game.seats[seat]?.name ?? `seat ${seat + 1}`;
const sideClass = (game, seat) => `side-${Math.max(0, sides(game).indexOf(game.seats[seat]?.side)) % 4}`;

// One scale for all games, so that the same colour means the same credit everywhere.
const strongest = Math.max(
  1e-9,
  ...games.map((game) => Math.max(0, ...game.items.map((item) => Math.abs(credit(item) ?? 0)))),
);

function paint(node, item) {
  const value = credit(item);
  if (value === null) {
    node.style.setProperty("--credit", "var(--line)");
    return;
  }
  // The square root keeps small credit visible beside large.
  const share = Math.round(100 * Math.sqrt(Math.abs(value) / strongest));
  const pole = value >= 0 ? "var(--good)" : "var(--bad)";
  node.style.setProperty("--credit", `color-mix(in oklab, ${pole} ${share}%, color-mix(in oklab, var(--line) 70%, var(--card)))`);
}

function visible(item) {
  if (view === "all") return true;
  if (item.type === "event") return item.channel === "public" || (view !== "public" && (item.audience ?? []).includes(Number(view)));
  return view !== "public" && item.seat === Number(view);
}

function headline(game) {
  const facts = `iteration ${game.iteration} · episode ${game.episode} · seed ${game.seed}`;
  const won = game.winner ? `${game.winner} won` : game.truncated ? "truncated, nobody won" : "a draw";
  return element("div", "headline",
    element("h2", "", `${game.game}: ${won}`), element("span", "quiet number", facts));
}

function seatCards(game) {
  return element("div", "seats", ...game.seats.map((seat, index) => element("div", `seat ${sideClass(game, index)}`,
    element("b", "", seat.name), element("span", "role", seat.role),
    element("small", "", `${seat.side} · ${seat.holder}`), result(seat.outcome))));
}

function result(outcome) {
  if (!isNumber(outcome)) return null;
  const word = outcome > 0 ? "won" : outcome < 0 ? "lost" : "nothing won or lost";
  return element("small", `number ${word}`, outcome ? `${word}, ${signed(outcome, 1)}` : word);
}

function creditMap(game) {
  const behaviours = game.items.map((item, index) => [item, index]).filter(([item]) => item.type === "behaviour");
  const rows = game.seats.map((seat, seatIndex) => {
    const cells = behaviours.map(([item, index]) => {
      if (item.seat !== seatIndex) return element("i");
      const cell = element("button", credit(item) === null ? "none" : "");
      cell.type = "button";
      cell.title = `${seat.name}, ${item.phase}: ${item.action ?? item.speech ?? ""} (${credit(item) === null ? "no credit" : signed(credit(item))})`;
      cell.setAttribute("aria-label", cell.title);
      paint(cell, item);
      cell.addEventListener("click", () => reveal(index));
      return cell;
    });
    return element("div", `row ${sideClass(game, seatIndex)}`,
      element("span", "", `${seat.name} · ${seat.role}`), element("div", "cells", ...cells));
  });
  const legend = element("div", "legend",
    element("span", "number", `−${show(strongest, 2)}`), element("span", "bar"), element("span", "number", `+${show(strongest, 2)}`),
    element("span", "", "credit = weight × sign: red made less likely, green more"),
    element("span", "none"), element("span", "", "no credit"));
  return element("section", "map", element("div", "rows", ...rows), legend);
}

function reveal(index, behavior = "auto") {
  if (!byId(`item-${index}`)) {
    view = "all";
    drawGame();
  }
  const node = byId(`item-${index}`);
  node.open = true;
  node.classList.remove("target");
  void node.offsetWidth; // restarts the animation
  node.classList.add("target");
  node.scrollIntoView({ block: "center", behavior });
  location.hash = `game-${current}-${index}`;
}

function tools(game) {
  const select = element("select");
  const choices = [["all", "everything"], ["public", "what everybody sees"],
    ...game.seats.map((seat, index) => [String(index), `what ${seat.name} (${seat.role}) sees`])];
  for (const [value, label] of choices) select.append(new Option(label, value, false, value === view));
  select.addEventListener("change", () => { view = select.value; drawGame(true); });
  const toggle = element("button", "", "Open all details");
  toggle.type = "button";
  toggle.addEventListener("click", () => {
    const details = [...document.querySelectorAll(".behaviour")];
    const open = details.some((node) => !node.open);
    for (const node of details) node.open = open;
    toggle.textContent = open ? "Close all details" : "Open all details";
  });
  return element("div", "tools", element("label", "", "Show ", select), toggle,
    element("span", "", "← → for the other games"));
}

function eventRow(game, item) {
  if (item.channel === "private") {
    const audience = (item.audience ?? []).map((seat) => seatName(game, seat)).join(", ");
    return element("p", "event private", element("span", "tag", audience ? `only ${audience}` : "nobody"), item.text);
  }
  // Headings: what opens a night or a day divides the transcript.
  if (["night", "day", "round"].includes(item.kind)) return element("h3", "phase", item.text);
  return element("p", "event", item.text);
}

function behaviourCard(game, item, index) {
  const node = element("details", `behaviour ${sideClass(game, item.seat)}`);
  node.id = `item-${index}`;
  paint(node, item);
  const value = credit(item);
  const summary = element("summary", "",
    element("span", "who", element("b", "", seatName(game, item.seat)),
      element("span", "quiet", [...new Set([item.role, item.phase, item.holder])].join(" · "))),
    element("span", value === null ? "credit number none" : "credit number", value === null ? "no credit" : signed(value)));
  if (item.thought) summary.append(element("span", "thought", `(thinks) ${item.thought}`));
  if (item.speech) summary.append(element("span", "speech", `“${item.speech}”`));
  if (item.action) summary.append(element("span", "act", item.action.trim()));
  const facts = [["return", signed(item.return)], ["advantage", signed(item.advantage)], ["weight", show(item.weight)],
    ["sign", isNumber(item.sign) ? (item.sign < 0 ? "−" : item.sign > 0 ? "+" : "0") : "–"],
    ["log-prob", show(item.log_prob)], ["probability", isNumber(item.log_prob) ? `${(100 * Math.exp(item.log_prob)).toFixed(1)} %` : "–"]];
  const legal = (item.legal ?? []).map((label) => element("span", label === item.action ? "taken" : "", label.trim()));
  node.append(summary, element("div", "detail",
    element("dl", "number", ...facts.map(([name, text]) => element("div", "", element("dt", "", name), element("dd", "", text)))),
    legal.length ? element("div", "legal", ...legal) : null));
  return node;
}

function drawGame(keepPlace = false) {
  const main = byId("game");
  const place = main.scrollTop;
  const game = games[current];
  if (!game) {
    main.replaceChildren(element("p", "empty", "No game matches these filters."));
    return;
  }
  const transcript = element("section", "");
  let whispers = null; // private events in a row share a block
  game.items.forEach((item, index) => {
    if (!visible(item)) return;
    const isWhisper = item.type === "event" && item.channel === "private";
    if (!isWhisper) whispers = null;
    else if (!whispers) transcript.append(whispers = element("div", "whispers"));
    (whispers ?? transcript).append(item.type === "event" ? eventRow(game, item) : behaviourCard(game, item, index));
  });
  main.replaceChildren(headline(game), seatCards(game), creditMap(game), tools(game), transcript);
  main.scrollTop = keepPlace ? place : 0;
}

function shown() {
  const iteration = byId("iteration").value;
  const outcome = byId("outcome").value;
  return games.map((game, index) => index).filter((index) =>
    (iteration === "" || String(games[index].iteration) === iteration) && (outcome === "" || winner(games[index]) === outcome));
}

function drawList() {
  const list = shown();
  if (!list.includes(current)) current = list[0] ?? -1;
  byId("count").textContent = `${list.length} of ${games.length} games`;
  byId("games").replaceChildren(...list.map((index) => {
    const game = games[index];
    const button = element("button", "",
      element("span", "number", `Iteration ${game.iteration} · ${game.episode}`), element("b", "", winner(game)),
      element("small", "", `${game.items.filter((item) => item.type === "behaviour").length} decisions · seed ${game.seed}`));
    button.type = "button";
    button.setAttribute("aria-current", String(index === current));
    button.addEventListener("click", () => choose(index));
    return element("li", "", button);
  }));
}

function choose(index) {
  current = index;
  if (view !== "public") view = "all"; // a seat's view of one game says nothing about the next
  location.hash = `game-${index}`;
  drawList();
  drawGame();
  document.querySelector('#games [aria-current="true"]')?.scrollIntoView({ block: "nearest" });
}

function fill(select, values) {
  select.append(new Option("all", ""));
  for (const value of values) select.append(new Option(String(value), String(value)));
  select.addEventListener("change", () => { drawList(); drawGame(); });
}

fill(byId("iteration"), [...new Set(games.map((game) => game.iteration))].sort((a, b) => a - b));
fill(byId("outcome"), [...new Set(games.map(winner))].sort());
byId("title").textContent = title;
const decisions = games.reduce((sum, game) => sum + game.items.filter((item) => item.type === "behaviour").length, 0);
byId("summary").textContent = `${games.length} games, ${decisions} decisions`;
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
document.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!move || event.target.tagName === "SELECT") return;
  const list = shown();
  const next = list[list.indexOf(current) + move];
  if (next !== undefined) choose(next);
});

// A link may name a game and a decision in it: #game-3-17.
const [, game = 0, item] = /^#game-(\d+)(?:-(\d+))?$/.exec(location.hash) ?? [];
current = Number(game);
drawList();
drawGame();
if (item && byId(`item-${item}`)) reveal(Number(item), "instant");
