// The page itself: what is chosen, the list of games, tabs, links and keys.

const page = { data: JSON.parse(byId("data").textContent) };
page.games = page.data.games.map((_, index) => summarise(page.data, index));
// One scale for all games, so that the same colour means the same credit everywhere.
page.strongest = Math.max(1e-9, ...page.games.map((game) => game.strongest));
page.hasCredit = page.games.some((game) => game.strongest > 0);

const FILTERS = ["game", "iteration", "role", "holder", "outcome", "text", "order"];
const state = { current: 0, view: "all", tab: "games", shown: [], filters: {} };
const act = { move, setView, reveal, showIteration };

function readFilters() {
  state.filters = Object.fromEntries(FILTERS.map((name) => [name, byId(`filter-${name}`).value.trim()]));
  state.shown = sortGames(page.games, filterGames(page.data, page.games, state.filters), state.filters.order);
  const chosen = FILTERS.filter((name) => name !== "order" && state.filters[name]).length;
  byId("clear").hidden = chosen === 0;
  byId("filter-count").textContent = chosen ? ` (${chosen})` : "";
  for (const name of ["seat:won", "seat:lost", "seat:nothing"]) {
    const option = [...byId("filter-outcome").options].find(({ value }) => value === name);
    if (option) option.disabled = !state.filters.role && !state.filters.holder && state.filters.outcome !== name;
  }
}

function setUpFilters() {
  const values = (of) => [...new Set(page.games.flatMap(of))].sort((a, b) => (isNumber(a) ? a - b : a < b ? -1 : a > b ? 1 : 0));
  const all = (of, any) => [["", any], ...values(of).map((value) => [String(value), String(value)])];
  fillSelect(byId("filter-game"), all((game) => [game.game], "all games"));
  fillSelect(byId("filter-iteration"), all((game) => [game.iteration], "all iterations"));
  fillSelect(byId("filter-role"), all((game) => game.seats.map((seat) => seat.role), "any role"));
  fillSelect(byId("filter-holder"), all((game) => game.seats.map((seat) => seat.holder).filter(Boolean), "anybody"));
  fillSelect(byId("filter-outcome"), [["", "any outcome"], ...values((game) => [resultOf(game)]).map((result) => [`result:${result}`, result]),
    ["seat:won", "chosen seats won"], ["seat:lost", "chosen seats lost"], ["seat:nothing", "chosen seats drew"]]);
  fillSelect(byId("filter-order"), [["newest", "newest first"], ["oldest", "oldest first"], ["credit", "strongest credit first"], ["long", "longest first"]]);
  for (const name of FILTERS) byId(`filter-${name}`).addEventListener("input", () => { readFilters(); keepToShown(); });
  byId("clear").addEventListener("click", clearFilters);
}

function clearFilters() {
  for (const name of FILTERS) byId(`filter-${name}`).value = name === "order" ? state.filters.order : "";
  readFilters();
  keepToShown();
}

/** After the filters changed: the game stays if it is still among those shown, else the first of them. */
function keepToShown() {
  if (!state.shown.includes(state.current)) state.current = state.shown[0] ?? -1;
  drawList();
  drawGame();
}

function listEntry(index) {
  const game = page.games[index];
  const wanted = state.filters.role || state.filters.holder ? game.seats.filter((seat) => isWanted(seat, state.filters)) : [];
  const outcomes = [...new Set(wanted.map((seat) => `${state.filters.role || seat.role} ${seat.outcome > 0 ? "won" : seat.outcome < 0 ? "lost" : "drew"}`))];
  const entry = button("", "", () => choose(index));
  entry.append(element("b", "", resultOf(game)), element("span", "number quiet", `it. ${game.iteration} · ${game.episode}`),
    element("small", "", [...outcomes, `${game.game}, ${game.decisions} decisions`].join(" · ")));
  entry.title = `iteration ${game.iteration}, episode ${game.episode}, seed ${game.seed}`;
  entry.tabIndex = index === state.current ? 0 : -1;
  entry.setAttribute("aria-current", String(index === state.current));
  entry.dataset.index = index;
  return element("li", "", entry);
}

function drawList() {
  byId("count").textContent = `${state.shown.length} of ${page.games.length} games`;
  byId("games").replaceChildren(...state.shown.map(listEntry));
}

function drawGame(keepPlace = false) {
  hideTip();
  const main = byId("game");
  const place = main.scrollTop;
  const game = page.games[state.current];
  main.replaceChildren(...(game ? gameView(page, game, state, act) : [element("p", "empty", "No game matches these filters.")]));
  if (!keepPlace) main.scrollTop = 0;
  else main.scrollTop = place;
}

function choose(index) {
  state.current = index;
  if (state.view !== "public") state.view = "all"; // a seat's view of one game says nothing about the next
  setLink(`game-${index}`);
  for (const entry of byId("games").querySelectorAll("button")) {
    const isCurrent = Number(entry.dataset.index) === index;
    entry.setAttribute("aria-current", String(isCurrent));
    entry.tabIndex = isCurrent ? 0 : -1;
    if (isCurrent) entry.scrollIntoView({ block: "nearest" });
  }
  drawGame();
  if (isNarrow()) {
    byId("chooser").open = false;
    byId("game").scrollIntoView({ block: "start" });
  }
}

const isNarrow = () => matchMedia("(max-width: 50rem)").matches;

function move(by) {
  const next = state.shown[state.shown.indexOf(state.current) + by];
  if (next !== undefined) choose(next);
}

function setView(view) {
  state.view = view;
  drawGame(true);
  byId("view").focus();
}

/** Brings a decision into sight and opens it, in the view of everything if the present one hides it. */
function reveal(place, behavior = prefersStill() ? "auto" : "smooth") {
  if (!byId(`item-${place}`)) {
    state.view = "all";
    drawGame();
  }
  const node = byId(`item-${place}`);
  if (!node) return;
  hideTip();
  node.open = true;
  node.classList.remove("target");
  void node.offsetWidth; // restarts the animation
  node.classList.add("target");
  node.scrollIntoView({ block: "center", behavior });
  setLink(`game-${state.current}-${place}`);
}

/** The next or previous decision, from the one that has the focus. */
function moveDecision(by) {
  const all = [...document.querySelectorAll("details.behaviour > summary")];
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by];
  next?.scrollIntoView({ block: "center" });
  next?.focus({ preventScroll: true });
}

function showTab(tab) {
  state.tab = tab;
  for (const name of ["games", "curves"]) {
    byId(`tab-${name}`).setAttribute("aria-selected", String(name === tab));
    byId(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
    byId(`panel-${name}`).hidden = name !== tab;
  }
  const panel = byId("panel-curves");
  if (tab === "curves" && !panel.childElementCount) panel.append(...curvesView(page, act));
}

function showIteration(iteration) {
  showTab("games");
  byId("filter-iteration").value = String(iteration);
  readFilters();
  keepToShown();
}

function setLink(name) {
  if (location.protocol === "about:") return; // inside a notebook's frame, which has no address of its own
  try {
    history.replaceState(null, "", `#${name}`);
  } catch {
    // Some browsers take so many a while only (a key that is held down); the game is shown all the same.
  }
}

/** A link may name the curves, a game, or a decision in it: #curves, #game-3, #game-3-17. */
function followLink() {
  const [, game, place] = location.hash.match(/^#game-(\d+)(?:-(\d+))?$/) ?? [];
  state.current = page.games[Number(game)] ? Number(game) : state.shown[0] ?? -1;
  showTab(location.hash === "#curves" && page.data.curves ? "curves" : "games");
  drawList();
  drawGame();
  if (place) reveal(Number(place), "instant");
}

function onKey(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Escape") hideTip();
  if (["SELECT", "INPUT"].includes(target.tagName)) return;
  if (key === "/") {
    event.preventDefault();
    showTab("games");
    byId("chooser").open = true;
    byId("filter-text").focus();
  } else if (state.tab === "games" && (key === "ArrowLeft" || key === "ArrowRight")) move(key === "ArrowRight" ? 1 : -1);
  else if (state.tab === "games" && (key === "j" || key === "k")) moveDecision(key === "j" ? 1 : -1);
}

function setUpPage() {
  byId("title").textContent = page.data.title;
  const decisions = page.games.reduce((sum, game) => sum + game.decisions, 0);
  byId("summary").textContent = `${page.games.length} games, ${decisions.toLocaleString("en")} decisions`;
  byId("tabs").hidden = !page.data.curves;
  for (const name of ["games", "curves"]) byId(`tab-${name}`).addEventListener("click", () => { showTab(name); setLink(name === "curves" ? "curves" : `game-${state.current}`); });
  rovingFocus(byId("tabs"), "button", (key, at) => ({ ArrowRight: 1 - at, ArrowLeft: 1 - at })[key] ?? null);
  rovingFocus(byId("games"), "button", (key, at, entries) => ({ ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: entries.length - 1 })[key] ?? null);
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  byId("chooser").open = !isNarrow();
  document.addEventListener("keydown", onKey);
  document.addEventListener("scroll", tipWhileScrolling, { capture: true, passive: true });
  addEventListener("hashchange", followLink);
}

setUpPage();
setUpFilters();
readFilters();
followLink();
// When the first game was in the page, and when it stood on the screen, in ms since the navigation began.
document.documentElement.dataset.drawn = performance.now().toFixed(0);
requestAnimationFrame(() => setTimeout(() => { document.documentElement.dataset.opened = performance.now().toFixed(0); }));
